"""The database grows for years, and no question of ours reads a whole table: the plans at a million rows."""

import pytest

from deploy.ops import sessions
from shared.db import inbox
from shared.db.engine import rows
from tests.support import plans

ROWS = 4_000
# Catalogues have a row for each of our tables and partitions, whatever becomes of what is in them.
OF_CATALOGUES = {"shared.db.inbox.PARTITIONS"}
# It is of a row of Alembic's, in a table that only databases of before have.
OF_BEFORE = {"shared.db.migrate.MOVE_REVISION"}
# A table that grows by what people put, whose newest version is read from an end, the files of one once in a process; and one
# that has a row for each of Stripe's accounts.
SMALL = {f"{kind} on letter_templates" for kind in ("Seq Scan", "Index Scan", "Index Only Scan")} | {
    "Seq Scan on stripe_reconciliations"
}
# They read an index from its one end, and stop at their limit or at the first row of the next consumer.
FROM_AN_END = {"shared.db.inbox.CONSUMERS_IN_DEFAULT"}

# They read what nobody has resolved, which has an index of its own; here that is all of it.
UNRESOLVED = {"shared.db.attention.COUNT_OPEN", "shared.db.lost_tickets.REPORTED"}


@pytest.fixture
async def grown(engine):
    async with engine.begin() as tx:
        [(now,)] = await rows(tx, "select now()")
        await inbox.make_partitions(tx, now)
        await plans.fill(tx, ROWS)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await rows(connection, "vacuum analyze")
    async with engine.begin() as tx:
        await plans.pretend(tx, plans.PRETENDED_ROWS)
        yield tx


async def test_every_query_of_a_consumer_of_the_door_and_of_the_inbox_uses_an_index_at_a_million_rows(grown):
    """Whatever stands in a constant of a store is asked for its plan, for a whole batch and as a prepared statement."""
    statements = plans.statements()
    reading = {}
    for name in sorted(statements.keys() - OF_CATALOGUES - OF_BEFORE - FROM_AN_END - UNRESOLVED):
        for plan in await plans.plans(grown, statements[name]):
            if whole := sorted({*plans.unindexed(plan)} - SMALL):
                reading[name] = whole

    assert reading == {}
    assert len(statements) > 40


async def test_sessions_that_no_event_ended_are_found_among_the_payments_under_way(grown):
    """An operator's hourly look is the one question of its kind: payments that are over are never read for it."""
    reading = [place for plan in await plans.plans(grown, sessions.OVERDUE) for place in plans.unindexed(plan)]

    assert reading == []


async def test_an_event_is_looked_for_in_the_inbox_by_its_time(grown):
    """By its id alone the index leads to all that a consumer has taken in 45 days, once more for each event of a batch."""
    for plan in await plans.plans(grown, inbox.KNOWN):
        conditions = [node["Index Cond"] for node in _nodes(plan) if "Index Cond" in node]

        assert conditions
        assert [one for one in conditions if "created = asked.created" not in one] == []


async def test_the_planner_believes_in_a_million_rows_and_a_missing_index_would_be_seen(grown):
    """The test above has teeth: without their index, the same questions read everything."""
    lookup = "select intent_id from payment_intents where payment_id = any($1::uuid[])"
    assert not any(list(plans.unindexed(plan)) for plan in await plans.plans(grown, lookup))
    await rows(grown, "drop index ix_payment_intents_payment_id")
    await plans.pretend(grown, plans.PRETENDED_ROWS)

    [everything, *_] = await plans.plans(grown, "select intent_id from payment_intents")
    assert everything["Plan Rows"] == pytest.approx(plans.PRETENDED_ROWS, rel=0.05)
    [looking, *_] = await plans.plans(grown, lookup)
    assert list(plans.unindexed(looking)) == ["Seq Scan on payment_intents"]


def test_no_store_hides_a_statement_from_this_test():
    """SQL stands in constants; what is built in place could grow slow unseen."""
    assert plans.sql_outside_constants() == []


def _nodes(plan):
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
