"""Several payments consumers over the same events at once, on real PostgreSQL: nobody deadlocks, nothing counts twice."""

import asyncio
import random

import pytest

from consumers.payments.handlers import Payments
from shared.db import engine as engines
from shared.db.engine import rows
from shared.kafka.batch import Batches
from shared.messages import payment_states
from tests.builders import Sale, insert_sales, record, stripe_event

ROUNDS = 12
RIVALS = 2
FOLDED = (
    "id::text, status::text, amount_refunded_minor, charge_refunded_minor, paid, failed, cancel_due, failure_reason, "
    "closed_reason, stripe_payment_intent_id, closed_at is not null"
)


class Published:
    def __init__(self):
        self.events = []

    async def publish(self, records, *, deadline_seconds=5.0):
        self.events += [payment_states.decode(r.value) for r in records if r.topic == "payments.events"]
        assert not [r for r in records if r.topic == "dlt"], [dict(r.headers)["x-error"] for r in records if r.topic == "dlt"]


@pytest.fixture
async def rivals(database):
    made = [engines.create(database, application=f"rival-{n}") for n in range(RIVALS)]
    published = [Published() for _ in made]
    yield [
        (Batches(Payments(), engine=e, producer=p, group="payments", target="payments.events", refusals="dlt"), p)
        for e, p in zip(made, published, strict=True)
    ]
    for e in made:
        await e.dispose()


async def query(engine, sql, *parameters):
    async with engine.begin() as tx:
        return [tuple(row) for row in await rows(tx, sql, *parameters)]


def batches_of(records, size, shuffled):
    order = list(records)
    shuffled.shuffle(order)
    return [order[at : at + size] for at in range(0, len(order), size)]


async def consume(story, batches):
    for one in batches:
        async with asyncio.timeout(20):
            await story.handle(one)


async def test_whole_batches_that_race_in_different_orders_meet_without_a_deadlock(rivals, engine):
    """Two consumers hold the same events after a rebalance: versions rise by one, the ledger has one line an event."""
    shuffled = random.Random(20_261_124)
    for _ in range(ROUNDS):
        sales = [Sale() for _ in range(12)]
        async with engine.begin() as tx:
            await insert_sales(tx, *sales)
        records = [
            record(event)
            for sale in sales
            for event in (sale.declined(), sale.succeeded(), sale.completed(), sale.refunded(2500), sale.refund(2500))
        ]
        for _, published in rivals:
            published.events.clear()
        await asyncio.gather(*(consume(story, batches_of(records, 15, shuffled)) for story, _ in rivals))

        ids = [sale.payment_id for sale in sales]
        told = {event.id: event for _, published in rivals for event in published.events}
        for sale in sales:
            versions = sorted(e.data.version for e in told.values() if str(e.data.payment_id) == sale.payment_id)
            [(version,)] = await query(engine, "select version from payments where id = $1", sale.payment_id)
            assert versions == list(range(1, version + 1))
        assert await query(
            engine,
            "select count(*), count(distinct event_id) from payment_ledger where payment_id = any($1::uuid[]) "
            "and decision in ('applied', 'unchanged')",
            ids,
        ) == [(60, 60)]
        ended = await query(engine, f"select {FOLDED} from payments where id = any($1::uuid[])", ids)
        assert {row[1:9] for row in ended} == {("succeeded", 2500, 2500, True, True, False, "generic_decline", None)}
        assert await query(engine, "select count(*) from waiting_events") == [(0,)]


async def test_a_refund_that_waits_while_another_consumer_links_its_intent_waits_for_nobody_ever(rivals, engine):
    """The one has only refunds, the other only what links them: however they interleave, every refund is folded in."""
    (first, _), (second, _) = rivals
    for turn in range(ROUNDS * 3):
        sales = [Sale() for _ in range(6)]
        async with engine.begin() as tx:
            await insert_sales(tx, *sales)
        refunds = [record(event) for sale in sales for event in (sale.refunded(), sale.refund())]
        links = [record(sale.succeeded()) for sale in sales]
        shuffled = random.Random(turn)
        await asyncio.gather(consume(first, batches_of(refunds, 4, shuffled)), consume(second, batches_of(links, 3, shuffled)))

        assert await query(engine, "select count(*) from waiting_events") == [(0,)]
        ids = [sale.payment_id for sale in sales]
        assert await query(
            engine, "select distinct status::text, cancel_due from payments where id = any($1::uuid[])", ids
        ) == [("refunded", True)]
        assert await query(
            engine,
            "select count(*) from payment_ledger where payment_id = any($1::uuid[]) and decision in ('applied', 'unchanged')",
            ids,
        ) == [(18,)]


async def test_both_orders_of_one_pair_of_batches_at_the_very_same_moment(rivals, engine):
    """A and B against B and A, started together again and again: PostgreSQL never has to choose a victim."""
    (first, _), (second, _) = rivals
    for _ in range(ROUNDS * 3):
        one, two = Sale(), Sale()
        async with engine.begin() as tx:
            await insert_sales(tx, one, two)
        a = [record(one.succeeded()), record(two.refunded())]
        b = [record(two.succeeded()), record(one.refunded())]
        async with asyncio.timeout(20):
            await asyncio.gather(first.handle(a), second.handle(b))
            await asyncio.gather(first.handle([*reversed(b)]), second.handle([*reversed(a)]))

        assert await query(engine, "select count(*) from waiting_events") == [(0,)]
        ids = [one.payment_id, two.payment_id]
        assert await query(engine, "select distinct status::text from payments where id = any($1::uuid[])", ids) == [
            ("refunded",)
        ]


async def test_consumers_meet_at_the_row_of_a_payment_that_is_linked_already(rivals, engine):
    """Once its intent is known there is no key to wait for: the row's lock alone keeps every version and every amount."""
    (first, _), (second, _) = rivals
    shuffled = random.Random(20_261_125)
    for _ in range(ROUNDS):
        sales = [Sale() for _ in range(8)]
        async with engine.begin() as tx:
            await insert_sales(tx, *sales)
        await first.handle([record(sale.succeeded()) for sale in sales])
        halves = [
            [record(sale.refund(100, refund_id=f"re_{half}_{n}_{sale.tag}")) for sale in sales for n in range(5)]
            for half in range(RIVALS)
        ]
        await asyncio.gather(
            consume(first, batches_of(halves[0], 10, shuffled)), consume(second, batches_of(halves[1], 10, shuffled))
        )

        ids = [sale.payment_id for sale in sales]
        found = "select distinct version, amount_refunded_minor from payments where id = any($1::uuid[])"
        assert await query(engine, found, ids) == [(11, 1000)]


async def test_events_that_touch_no_payment_are_recorded_once_and_in_one_order(rivals, engine):
    """They have no row to meet at: whole batches in opposite orders still wait for each other one way only."""
    (first, _), (second, _) = rivals
    for _ in range(ROUNDS):
        records = [record(stripe_event("customer.created", {"id": f"cus_{n}", "object": "customer"})) for n in range(400)]
        await query(engine, "truncate inbox, payment_ledger")
        async with asyncio.timeout(20):
            await asyncio.gather(first.handle(records), second.handle(records[::-1]))

        assert await query(engine, "select count(*) from inbox") == [(400,)]
        assert await query(engine, "select count(*) from payment_ledger where decision = 'unhandled'") == [(400,)]
