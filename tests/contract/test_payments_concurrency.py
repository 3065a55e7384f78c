"""Two payments consumers that meet where only one thing keeps them apart: a row's lock, or the order of writing."""

import asyncio
import random

import pytest

from consumers.payments.handlers import Payments
from shared.db import engine as engines
from shared.db.engine import rows
from shared.kafka.batch import Batches
from shared.messages import payment_states
from tests.support.builders import Sale, insert_sales, record, stripe_event
from tests.support.database import query, waits_for_a_lock
from tests.support.waiting import until

ROUNDS = 12
RIVALS = 2


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


def batches_of(records, size, shuffled):
    order = list(records)
    shuffled.shuffle(order)
    return [order[at : at + size] for at in range(0, len(order), size)]


async def consume(story, batches):
    for one in batches:
        async with asyncio.timeout(20):
            await story.handle(one)


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


async def test_a_change_that_began_earlier_never_dates_a_payment_back(rivals, engine):
    """Its transaction began before the other's and got the row after it: who asks for the payment sees its time go on."""
    (rival, _), _ = rivals
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    async with engine.begin() as early:
        await rows(early, "select")
        await rival.handle([record(sale.declined())])
        [before] = await query(engine, "select status::text, updated_at from payments where id = $1", sale.payment_id)
        await Payments().apply(early, [Payments().judge(record(sale.succeeded()))])

    [after] = await query(engine, "select status::text, updated_at from payments where id = $1", sale.payment_id)
    assert (before[0], after[0]) == ("failed", "succeeded")
    assert after[1] > before[1]


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


async def test_an_event_that_touches_no_payment_is_no_dead_letter_of_whoever_is_second(rivals, engine):
    """After a rebalance both have it, alone in its batch: the second one finds it taken, and has nothing to refuse."""
    (second, _), _ = rivals
    event = record(stripe_event("customer.created", {"id": "cus_1", "object": "customer"}))
    async with engine.begin() as first:
        await Payments().apply(first, [Payments().judge(event)])
        taking = asyncio.create_task(second.handle([event]))
        await until(waits_for_a_lock(engine), "the second waits for the first")

    await taking
    assert await query(engine, "select count(*) from inbox") == [(1,)]
