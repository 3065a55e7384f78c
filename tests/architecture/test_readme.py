"""What README tells must be so: every variable, every file of the walk, every command; and where every page leads."""

import ast
import functools
import itertools
import re
import subprocess
from pathlib import Path

import pytest

from deploy.dev.services import environment
from shared import settings
from shared.stripe_events import Kind
from tests.architecture.source import product
from tests.architecture.test_images import SETTINGS
from tests.journey.forked import Forked

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    str(page.relative_to(ROOT)) for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md") for page in ROOT.glob(pattern)
)
# What looks like a path and is none: `make bench` writes the first, the second is a Deployment of Kubernetes.
NO_PATHS = {"docs/bench.json", "deploy/culturebridge-ingress"}
README = (ROOT / "README.md").read_text()
EVERY_CONCERN = [one for one in vars(settings).values() if isinstance(one, type) and issubclass(one, settings.Concern)]
# Whoever is extended by another is part of it.
CONCERNS = [one for one in EVERY_CONCERN if not any(issubclass(other, one) for other in EVERY_CONCERN if other is not one)]


def test_every_variable_stands_in_the_table():
    """A setting that nobody can find does not exist, and one that does not exist must not be promised."""
    read = {name.upper() for concern in CONCERNS for name in concern.model_fields}
    table = README.partition("## Configuration")[2].partition("\nOn SIGTERM")[0]
    told = {
        name for row in table.splitlines() if row.startswith("| `") for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])
    }

    assert len(read) > 30
    assert told == read


def test_every_default_stands_in_the_table():
    """Whoever leaves a variable out goes by the page."""
    defaults = {name.upper(): field.default for concern in CONCERNS for name, field in concern.model_fields.items()}
    spelt = {
        name: {False: "off"}.get(default, str(default)) for name, default in defaults.items() if isinstance(default, str | int)
    }
    rows = dict(re.findall(r"^\| (`[A-Z].*?`) \| [^|]* \| (.*) \|$", README, re.MULTILINE))
    told = {name: meaning for names, meaning in rows.items() for name in re.findall(r"[A-Z_]+", names)}
    words = {name: set(re.findall(r"[\w.-]*\w", meaning)) for name, meaning in told.items()}

    assert {name: default for name, default in spelt.items() if default and default not in words[name]} == {}
    for process, settings_of in SETTINGS.items():
        assert f"{settings_of.model_fields['health_port'].default} {process}" in told["HEALTH_PORT"]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    """A link into the repository leads to a file that is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())

    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_is_there(page):
    """A test that was renamed refutes no promise, and a place that has moved is looked for in vain."""
    rooms = "tests|shared|consumers|ingress|deploy|docs|requirements"
    named = re.findall(rf"`((?:{rooms})/[\w./-]*\w)/?`", (ROOT / page).read_text())

    assert [path for path in named if path not in NO_PATHS and not (ROOT / path).exists()] == []


def anchors(page):
    """What GitHub calls the headings of a page; what stands in a block of code is none."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_anchor_is_a_heading(page):
    """Whoever follows a link under an alarm must not land at the top of a long page and search."""
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", (ROOT / page).read_text())
    places = [((ROOT / page).parent / link if link else ROOT / page, anchor) for link, anchor in links]

    assert [f"{place}#{anchor}" for place, anchor in places if anchor not in anchors(place)] == []


@functools.cache
def names_of_tests():
    files = list((ROOT / "tests").rglob("test_*.py"))
    return {file.stem for file in files} | {
        name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_is_there(page):
    """By its whole name, or by its beginning where it ends with an ellipsis."""
    named = re.findall(r"`(test_\w+)(?:\.py)?(…?)`", (ROOT / page).read_text())
    whole, begun = ({name for name, cut in named if bool(cut) is is_cut} for is_cut in (False, True))

    assert whole - names_of_tests() == set()
    assert {name for name in begun if not any(known.startswith(name) for known in names_of_tests())} == set()


def test_every_page_is_led_to():
    """A page that README or a page before it does not name is read by nobody."""
    linked = {
        str(((ROOT / page).parent / link).resolve().relative_to(ROOT))
        for page in PAGES
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    }

    assert [page for page in PAGES if page not in linked and page != "README.md" and "docs/topics" not in page] == []


def test_the_walk_is_a_chain():
    """Each of the twelve files names the next one in its docstring, in its own folder or by its path; the last one says so."""
    walk = re.findall(r"^\d+\. \[`([^`]+)`\]", README, re.MULTILINE)
    heads = {one.path: ast.get_docstring(one.tree) for one in product()}

    assert len(walk) == 12
    for file, successor in itertools.pairwise(walk):
        [named] = re.findall(r"Next in the walk:\s([\w/]+\.py)\b", heads[file])
        assert successor in {named, str(Path(file).parent / named)}, f"{file} leads to {named}"
    assert {path for path, head in heads.items() if "Next in the walk" in head} == set(walk[:-1])
    assert [path for path, head in heads.items() if "The walk ends here." in head] == walk[-1:]


def test_every_make_target_of_the_pages_exists():
    """`make help` is the list; no page may name a target that it lacks."""
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", pages, re.MULTILINE))
    assert named <= set(re.findall(r"make ([a-z]+)", listed))


def test_the_web_application_is_told_from_where_it_may_call():
    """The origins of its development servers, as they print them: at any other one its browser speaks of CORS alone."""
    told = set(re.findall(r"`(http://localhost:\d+)`", README.partition("## For the web application")[2].partition("\n## ")[0]))

    assert told == {origin for origin in environment.FRONTENDS if origin.startswith("http:")}
    assert "http://localhost:5173" in told


def test_the_events_to_subscribe_to_are_those_that_we_handle():
    """Whoever sets the endpoint up by the page misses nothing."""
    bullet = README.partition("- **Stripe.**")[2].partition("at API version")[0]

    assert set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", bullet)) == set(Kind)


@pytest.mark.parametrize("process", ["ingress", "consumers.payments", "consumers.bookings", "consumers.email"])
async def test_a_process_without_settings_says_what_is_missing_and_exits_2(process, tmp_path):
    """One line per fault, naming the variable, and nothing started."""
    log = tmp_path / "log"
    ended = await Forked.start(process, environment={"PATH": "/usr/bin:/bin"}, log=log, folder=tmp_path)

    assert await ended.wait() == 2
    lines = log.read_text().splitlines()
    assert "DATABASE_URL: is not set" in lines
    assert "KAFKA_BOOTSTRAP_SERVERS: is not set" in lines
    assert all(re.fullmatch(r"[A-Z_]+: .+|JWT_SECRET_KEY must .+", line) for line in lines)
