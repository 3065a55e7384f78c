"""The rules of the house that no linter knows: whose packages these are, what stands where, what nothing is called."""

import ast
import importlib
import re
import tomllib

import pytest

from shared.logs import PRINTED
from tests.architecture.source import ROOMS, ROOT, module, product

SHAPELESS = {"utils.py", "util.py", "helpers.py", "common.py", "types.py", "misc.py"}
SQL = re.compile(
    r"\s*(select\s.+\sfrom\b|select\s+\w+\(|insert\s+into\b|update\s+\w+\s+(\w+\s+)?set\b|delete\s+from\b|with\s+\w+\s+as\s*\(|"
    r"(create|drop|alter)\s+(table|database|index|type)\b)",
    re.IGNORECASE | re.DOTALL,
)
# What may stand only where: a library or a module of it, and the paths that may import it.
FENCES = {
    "faststream": r".*/app\.py|shared/kafka/.*",
    "stripe": r"shared/stripe_api\.py",
    "aiohttp.web": r"ingress/.*|shared/(kafka/health|http_servers)\.py|deploy/.*",
    "aiosmtplib": r"consumers/email/delivery\.py",
    "asyncpg": r".*/store\.py|shared/db/.*|deploy/.*",
}
SPEAKS_SQL = r".*/store\.py|shared/db/.*|deploy/ops/.*|deploy/dev/services/database\.py"
OF_STRUCTLOG = {"event", "level", "logger", "timestamp", "process", "exception", "stack_info"}
MONEY = {"amount_minor", "nearest_minor", "price_minor", "hourly_rate"}


def outside(path, allowed):
    return not re.fullmatch(allowed, path)


def makes_a_float(one):
    """Whether a file divides, rounds or converts; that it names the type of seconds is no matter."""
    notes = {id(getattr(node, part, None)) for node in ast.walk(one.tree) for part in ("annotation", "returns")}
    named = (node for node in ast.walk(one.tree) if isinstance(node, ast.Name) and id(node) not in notes)
    divides = any(isinstance(getattr(node, "op", None), ast.Div) for node in ast.walk(one.tree))
    return divides or any(name.id in {"float", "round"} for name in named)


def speaks_sql(one):
    return [text for text in one.strings if SQL.match(text)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_is_ours(room):
    """Each of these names is taken in public registries; whatever is installed, ours is imported."""
    assert importlib.import_module(room).__file__ == str(ROOT / room / "__init__.py")


def test_every_file_says_what_it_is():
    """A module's docstring is the first line of the walk through it."""
    assert [one.path for one in product() if not ast.get_docstring(one.tree)] == []


def test_every_folder_of_code_is_a_package():
    """A folder without __init__.py would be found by path and missed by the tools."""
    folders = {(ROOT / one.path).parent for one in product()}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_nothing_is_called_by_what_it_lacks():
    """No utils, helpers, common or types: a name says what is in it. Nor does a file take a library's name."""
    found = [path for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py") if path.name in SHAPELESS]
    assert found == []
    libraries = {f"{library.partition('.')[0]}.py" for library in FENCES} | {"logging.py", "asyncio.py"}
    assert [one.path for one in product() if one.path.rpartition("/")[2] in libraries] == []


def calls_itself_pure(one):
    """Whether a module's docstring says so: "…; pure.", "… Pure: …", "…, pure, …"."""
    return bool(re.search(r"\bpure[.;:,]", ast.get_docstring(one.tree) or "", re.IGNORECASE))


def test_what_calls_itself_pure_is_held_to_it():
    """import-linter keeps the world out of the modules of one contract; whoever writes the word into a docstring joins them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [held] = [contract["source_modules"] for contract in contracts if contract["name"] == "Judgement touches no world"]
    names = {
        one.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for one in product() if calls_itself_pure(one)
    }

    assert sorted(name for name in names if not any(f"{name}.".startswith(f"{one}.") for one in held)) == []


@pytest.mark.parametrize(("library", "allowed"), FENCES.items())
def test_a_library_stands_only_where_it_may(library, allowed):
    """One room knows each library, so that replacing it is that room's work alone."""
    assert [one.path for one in product() if library in one.imports and outside(one.path, allowed)] == []


def fields_logged(one):
    """The fields of a file's log lines, and of the function by which it tells several alike."""
    calls = [node for node in ast.walk(one.tree) if isinstance(node, ast.Call)]
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    methods = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in levels]
    lines = [call for call in methods if isinstance(call.func.value, ast.Call) or getattr(call.func.value, "id", "") == "log"]
    lines += [call for call in calls if getattr(call.func, "id", "") in {"_tell", "log_letter"}]
    return {field.arg for line in lines for field in line.keywords if field.arg}


def fields_withheld(one):
    """The fields of a file's log lines that nobody would ever read."""
    return sorted(fields_logged(one) - PRINTED)


def test_every_field_of_a_log_line_is_printed():
    """Whoever adds one puts it on the list of shared/logs.py, having thought of what it may hold; else it says [withheld]."""
    assert {one.path: fields_withheld(one) for one in product() if fields_withheld(one)} == {}


def test_no_field_stands_on_the_list_that_nobody_logs():
    """The list is read when somebody asks what a log may hold; what was taken out of the code is taken off it."""
    assert PRINTED - {field for one in product() for field in fields_logged(one)} == OF_STRUCTLOG


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_a_field_that_is_not_printed_is_seen_where_it_is_planted(level):
    """At any level, beside others."""
    assert fields_withheld(module("ingress/webhook.py", f'log.{level}("a.b", reason="x", card_number=1)')) == ["card_number"]


def test_no_file_that_counts_money_makes_a_float():
    """Amounts are integers of minor units and decimals at the edge; only the table of currencies divides, and decimals."""
    counting = [one for one in product() if MONEY & one.names and not one.path.startswith("deploy/dev/")]

    assert len(counting) > 10
    assert [one.path for one in counting if makes_a_float(one)] == ["shared/domain/money.py"]


@pytest.mark.parametrize("text", ["float(amount)", "a = round(1, 2)", "map(float, amounts)", "amount_minor / 100", "a /= 100"])
def test_a_float_is_seen_where_it_is_planted(text):
    """Each way in which an amount becomes one."""
    assert makes_a_float(module("ingress/answers.py", text))


def test_sql_stands_in_stores():
    """Whoever looks for a statement knows where; handlers and commands have none."""
    assert [(one.path, speaks_sql(one)) for one in product() if speaks_sql(one) and outside(one.path, SPEAKS_SQL)] == []


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ("import faststream", "faststream"),
        ("from faststream.kafka import KafkaBroker", "faststream"),
        ("import stripe as s", "stripe"),
        ("def f():\n    from aiohttp import web", "aiohttp.web"),
        ("import aiohttp.web", "aiohttp.web"),
        ("from aiohttp.web import Response", "aiohttp.web"),
        ("import asyncpg.exceptions", "asyncpg"),
    ],
)
def test_a_fence_sees_what_is_planted(text, library):
    """The rule itself is tried: each way of importing is caught."""
    assert library in module("consumers/email/compose.py", text).imports
    assert outside("consumers/email/compose.py", FENCES[library])


@pytest.mark.parametrize(
    "text",
    [
        'Q = "select id from payments"',
        'Q = """\nwith a as (select 1) select * from a\n"""',
        'f("update bookings set status = $1")',
        'f("insert into inbox values (1)")',
        'f(f"delete from {table}")',
        'Q = "SELECT pg_advisory_xact_lock($1)"',
    ],
)
def test_sql_is_seen_where_it_is_planted(text):
    """Plain, formatted, in capitals or over several lines."""
    assert speaks_sql(module("ingress/webhook.py", text))


@pytest.mark.parametrize("text", ['"""select a card from the list"""', 'x = "Select one"', 'x = "update your card"'])
def test_prose_is_no_sql(text):
    """A docstring or a sentence may use the words."""
    assert not speaks_sql(module("ingress/webhook.py", text))
