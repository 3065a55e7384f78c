"""Two payments consumers, held at every pair of crossings of their transactions: nobody waits for ever, nothing deadlocks."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from consumers.payments import store
from consumers.payments.handlers import Payments
from shared.db import engine as engines
from shared.db import waiting
from shared.db.engine import rows
from shared.messages import payment_states
from tests.support.builders import Sale, insert_sales, record
from tests.support.crossings import Rival, all_end, every_crossing

RUNS_MIN = 60  # fewer would mean that the crossings are not seen
ENDS = """
select status::text, amount_refunded_minor, charge_refunded_minor, paid, failed, cancel_due, failure_reason, closed_reason,
       closed_at is not null
from payments where id = any($1::uuid[]) order by array_position($1::uuid[], id)
"""
LINES = """
select event_id, count(*) from payment_ledger
where payment_id = any($1::uuid[]) and decision in ('applied', 'unchanged') group by 1
"""
STOCK = 400


def charge_of(sale):
    return f"ch_3{sale.tag}00000000"


@dataclass(frozen=True)
class Scene:
    """The batches that two take at the same time, that of a third in between, and what is handled before and after."""

    one: Sequence
    two: Sequence
    between: Sequence = ()
    before: Sequence = ()
    after: Sequence = ()


def _refund_and_success(a, b):
    return Scene([a.refunded()], [a.succeeded()])


def _each_frees_what_the_other_brings(a, b):
    return Scene([a.succeeded(), b.refunded()], [b.succeeded(), a.refunded()])


def _one_links_what_another_needs_and_a_third_what_both_touch(a, b):
    return Scene([a.succeeded(), b.refund(100)], [b.expired(), a.refund(100)], between=[b.succeeded()])


def _the_same_events_after_a_rebalance(a, b):
    events = [a.refund(100), a.succeeded(), b.declined(), b.dispute(), a.completed()]
    return Scene(events, events[::-1])


def _one_event_that_both_hold_alone(a, _):
    event = a.succeeded()
    return Scene([event], [event])


def _a_dispute_by_its_charge_and_the_refund_that_links_it(a, b):
    linking = [a.refund(100, charge=charge_of(a)), a.succeeded()]
    return Scene([a.dispute(payment_intent=None, charge=charge_of(a))], linking)


def _what_one_frees_links_what_the_other_needs(a, b):
    """The charge is named by a refund that waits for its intent, and by nothing in either batch beside the other's refund."""
    waits_by_intent, by_charge = a.refunded(1000), a.refund(1000, payment_intent=None, charge=charge_of(a))
    return Scene([a.completed()], [by_charge], before=[waits_by_intent])


def _payments_that_are_linked_already(a, b):
    one = [a.refund(100, refund_id=f"re_1{a.tag}"), b.refund(100, refund_id=f"re_1{b.tag}")]
    two = [b.refund(200, refund_id=f"re_2{b.tag}"), a.refund(200, refund_id=f"re_2{a.tag}")]
    return Scene(one, two, before=[a.succeeded(), b.succeeded()])


SCENES = (
    _refund_and_success,
    _each_frees_what_the_other_brings,
    _one_links_what_another_needs_and_a_third_what_both_touch,
    _the_same_events_after_a_rebalance,
    _one_event_that_both_hold_alone,
    _a_dispute_by_its_charge_and_the_refund_that_links_it,
    _what_one_frees_links_what_the_other_needs,
    _payments_that_are_linked_already,
)


@pytest.fixture
async def rivals(database, monkeypatch):
    made = [engines.create(database, application=f"rival-{n}", pool_size=1) for n in range(3)]
    three = [Rival(engine, Payments(), monkeypatch) for engine in made]
    for rival in three:
        await rival.connect()
    yield three
    for engine in made:
        await engine.dispose()


@pytest.fixture
async def stock(engine):
    """Pairs of sales that no run has touched yet."""

    async def endless():
        while True:
            made = [Sale() for _ in range(STOCK)]
            async with engine.begin() as tx:
                await insert_sales(tx, *made)
            for pair in zip(made[::2], made[1::2], strict=True):
                yield pair

    pairs = endless()
    yield pairs
    await pairs.aclose()


class Stage:
    """Plays a scene with fresh sales, and tells how it ended."""

    def __init__(self, scene, rivals, stock, engine):
        self.rivals, self.engine = rivals, engine
        self._play, self._stock = scene, stock

    async def batches(self):
        """Set the scene; return the three batches."""
        self.sales = await anext(self._stock)
        self._scene = self._play(*self.sales)
        await self._handle(self._scene.before)
        return [[record(event) for event in batch] for batch in (self._scene.one, self._scene.two, self._scene.between)]

    async def ended(self):
        """End the scene; return the payments as they stand, having judged that every event counted once, under one version."""
        await self._handle(self._scene.after)
        ids = [sale.payment_id for sale in self.sales]
        async with self.engine.begin() as tx:
            ends = [tuple(row) for row in await rows(tx, ENDS, ids)]
            lines = dict(map(tuple, await rows(tx, LINES, ids)))
            waiting = await rows(tx, "select count(*) from waiting_events")
            versions = await rows(tx, "select id::text, version from payments where id = any($1::uuid[])", ids)
        assert waiting == [(0,)], "nobody waits for ever"
        scene = self._scene
        assert lines == {event["id"]: 1 for event in (*scene.before, *scene.one, *scene.two, *scene.between, *scene.after)}
        records = [r for rival in self.rivals for r in rival.told.take()]
        assert {r.topic for r in records} == {"payments.events"}
        told = {event.id: event.data for r in records if (event := payment_states.decode(r.value))}
        assert Counter((str(d.payment_id), d.version) for d in told.values()) == Counter(
            (payment_id, number) for payment_id, version in versions for number in range(1, version + 1)
        )
        return ends

    async def undisturbed(self):
        """Play it one after the other."""
        for rival, records in zip(self.rivals, await self.batches(), strict=True):
            await rival.handle(records)
        return await self.ended()

    async def _handle(self, events):
        if events:
            await self.rivals[0].handle([record(event) for event in events])


@pytest.fixture
def stage(scene, rivals, stock, engine):
    return Stage(scene, rivals, stock, engine)


@pytest.fixture
async def watcher(engine):
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        yield connection


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.strip("_"))
async def test_held_at_every_pair_of_crossings_two_consumers_end_as_one_would(stage, watcher):
    """Whoever stops where, and whoever ends first: the same end, one line an event, no version twice, nothing left waiting."""
    expected = await stage.undisturbed()

    runs = 0
    async for crossed in every_crossing(*stage.rivals, watcher, stage.batches):
        assert await stage.ended() == expected, crossed
        runs += 1
    assert runs > RUNS_MIN


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.strip("_"))
@pytest.mark.parametrize("held", ["keys", "payments"])
async def test_two_that_wait_for_the_same_lock_take_the_others_in_one_order(stage, watcher, held):
    """Somebody else holds one of their locks while both come: when it is let go, none has what the other needs."""
    expected = await stage.undisturbed()
    for number in range(4):
        for first, second in itertools.permutations(stage.rivals[:2]):
            records = dict(zip(stage.rivals, await stage.batches(), strict=True))
            sale = stage.sales[number % 2]
            names = (sale.intent_id, sale.session_id) if number < 2 else (charge_of(sale),)
            async with stage.engine.begin() as outsider:
                if held == "keys":
                    await rows(outsider, waiting.ADVISORY_LOCKS, sorted(map(waiting.key_number, names)))
                else:
                    await rows(outsider, store.LOCK_PAYMENTS, [sale.payment_id])
                for rival in (first, second):
                    rival.start(records[rival])
                    await rival.settle(watcher)
            await stage.rivals[2].handle(records[stage.rivals[2]])
            await all_end(first, second)

            assert await stage.ended() == expected
