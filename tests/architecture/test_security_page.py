"""docs/security.md says who may what: its tables are those of the maps that are applied."""

import re

from deploy.ops.rights import EVERY, RIGHTS
from shared import topics
from shared.db import inbox, tables, waiting
from shared.kafka import acls
from tests.architecture.source import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()


def in_cluster():
    """One row a user: what it writes, what it reads, and the groups in which it does."""
    for process in topics.PROCESSES:
        user = acls.principal(process, prefix="")
        mine = [acl for acl in sorted(acls.wanted("")) if acl.principal == user]
        yield (
            f"`{user}`",
            code(acl.name for acl in mine if (acl.resource, acl.operation) == ("topic", "write")),
            code(acl.name for acl in mine if (acl.resource, acl.operation) == ("topic", "read")),
            code(acl.name for acl in mine if acl.resource == "group"),
        )


def in_database():
    """One row a role and table."""
    for role, rights in RIGHTS.items():
        for table, given in rights.items():
            named = (words(given.select), words(given.insert), words(given.update))
            yield f"`{role}`", f"`{table}`", *named, "yes" if given.delete else "-"


def code(names):
    return " ".join(f"`{name}`" for name in names) or "-"


def words(columns):
    return "all" if columns == EVERY else ", ".join(columns.split()) or "-"


def written(rows):
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_table_of_topics_is_the_map():
    """Whoever changes shared/topics.py changes the page."""
    assert f"| user | writes | reads | in the groups |\n|---|---|---|---|\n{written(in_cluster())}\n" in PAGE


def test_the_table_of_tables_is_the_map():
    """Whoever changes deploy/ops/rights.py changes the page."""
    assert (
        f"| role | table | reads | fills in | changes | deletes |\n|---|---|---|---|---|---|\n{written(in_database())}\n"
        in PAGE
    )


def test_every_call_to_stripe_is_one_that_a_restricted_key_must_allow():
    """By the names under which shared/stripe_api.py counts and logs its calls."""
    called = re.findall(r'await _answer\(\s*"(\w+)"', (ROOT / "shared" / "stripe_api.py").read_text())
    table = PAGE.partition("| call | at Stripe | called by |\n")[2].partition("\n\n")[0]

    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == sorted(called)


def test_every_store_says_what_it_keeps_of_people_and_how_long():
    """Whoever adds a table or a topic thinks of both; the days are those of the code."""
    table = PAGE.partition("| where | what of a person | how long |\n|---|---|---|\n")[2].partition("\n\n")[0]
    kept = {}
    for line in table.splitlines():
        where, _, how_long = (cell.strip() for cell in line.strip("|").split(" | "))
        kept |= dict.fromkeys(re.findall(r"`([^`]+)`", where), how_long)

    stores = {table.name for table in tables.OURS} | {"payments"}
    assert stores | {topic.name for topic in topics.ALL} == kept.keys()
    assert all(kept[topic.name].startswith(f"{topic.retention_days} days") for topic in topics.ALL)
    assert f"{waiting.KEEP_DAYS} days" in kept["waiting_events"]
    assert f"{inbox.KEEP_DAYS} days" in kept["inbox"]
