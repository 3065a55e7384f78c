"""A backlog: a batch that several transactions handle at once, on a real PostgreSQL."""

import asyncio

import pytest

from shared.db import engine as engines
from shared.db.engine import rows
from shared.errors import KafkaAway
from shared.kafka import batch
from shared.kafka.batch import Applied, Batches, Emitted
from shared.kafka.dead_letters import Refused
from tests.support.builders import record
from tests.support.waiting import until

WITHIN_SECONDS = 30


class Item:
    def __init__(self, record):
        self.record = record
        self.name, _, key = record.value.decode().partition(" of ")
        self.keys = [key] if key else []


class Effects:
    """Stores each item, and shows how many transactions were under way at a time and in which one each item was."""

    at_once_max = 40

    def __init__(self):
        self.transactions = []
        self.open, self.open_max = 0, 0
        self.on_apply = None
        self.asked = 0

    def judge(self, record):
        return Refused(record, "not_json") if record.value == b"no event" else Item(record)

    def keys(self, item):
        return item.keys

    async def items_at_once_max(self, engine):
        self.asked += 1
        return self.at_once_max

    async def apply(self, tx, items):
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        self.transactions.append([item.name for item in items])
        try:
            if self.on_apply is not None:
                await self.on_apply(tx, [item.name for item in items])
            names = [item.name for item in items]
            await rows(tx, "insert into effects select unnest($1::text[]) on conflict do nothing", names)
        finally:
            self.open -= 1
        return Applied([Emitted(b'{"subject":"%s"}' % item.record.value, item.record) for item in items])

    async def record_culprit(self, tx, item, reason):
        pass


class Published:
    def __init__(self):
        self.records = []

    async def publish(self, records, *, deadline_seconds=5.0):
        self.records += records

    def of(self, topic):
        return sorted(record.value for record in self.records if record.topic == topic)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Forty items instead of four thousand."""
    monkeypatch.setattr(batch, "TRANSACTION_ITEMS_MAX", 10)
    monkeypatch.setattr(batch, "TRANSACTION_ITEMS_MIN", 5)


@pytest.fixture
async def table(engine):
    async with engine.begin() as tx:
        await tx.exec_driver_sql("create table effects (value text primary key check (value <> 'unwanted'))")


@pytest.fixture
def effects():
    return Effects()


@pytest.fixture
def published():
    return Published()


@pytest.fixture
def batches(engine, table, effects, published):
    return Batches(effects, engine=engine, producer=published, group="g", target="out", refusals="out.dlt")


async def stored(engine):
    async with engine.begin() as tx:
        return {row[0] for row in await rows(tx, "select value from effects")}


def names(count):
    return [f"n{number}" for number in range(count)]


def records(values):
    return [record(value.encode(), offset=offset) for offset, value in enumerate(values)]


async def test_four_transactions_take_a_backlog_at_once(batches, effects, published, engine):
    async def until_all_are_under_way(_tx, _names):
        await until(lambda: effects.open_max == 4, "four transactions are under way")

    effects.on_apply = until_all_are_under_way
    await batches.handle(records(names(40)))

    assert sorted(len(one) for one in effects.transactions) == [10, 10, 10, 10]
    assert await stored(engine) == set(names(40))
    assert published.of("out") == sorted(b'{"subject":"%s"}' % name.encode() for name in names(40))


async def test_what_is_connected_is_handled_in_one_transaction_in_its_order(batches, effects):
    """Events of one payment, of which every second one comes behind those of others."""
    values = [f"{name} of {number % 7}" for number, name in enumerate(names(40))]
    await batches.handle(records(values))

    for key in range(7):
        expected = [name for number, name in enumerate(names(40)) if number % 7 == key]
        [found] = [[name for name in one if name in expected] for one in effects.transactions if expected[0] in one]
        assert found == expected


async def test_no_more_items_are_under_way_than_the_server_has_room_for(batches, effects, engine):
    effects.at_once_max = 5
    await batches.handle(records(names(40)))

    assert [len(one) for one in effects.transactions] == [5] * 8
    assert effects.open_max == 1
    assert await stored(engine) == set(names(40))


async def test_a_small_batch_is_one_transaction_and_asks_for_no_room(batches, effects):
    await batches.handle(records(names(5)))

    assert effects.transactions == [names(5)]
    assert effects.asked == 0


async def test_an_error_of_the_server_repeats_the_batch_and_lets_no_further_transaction_begin(
    batches, effects, published, engine
):
    """A server that answers nothing costs each transaction half a minute: the parts that wait must not try it, too."""
    effects.at_once_max = 5

    async def lose(tx, items):
        [(pid,)] = await rows(tx, "select pg_backend_pid()")
        async with engine.connect() as other:
            await rows(other, "select pg_terminate_backend($1)", pid)

    effects.on_apply = lose
    with pytest.raises(engines.TROUBLE):
        await batches.handle(records([*names(39), "no event"]))
    assert len(effects.transactions) == 1
    assert published.records == []

    effects.on_apply = None
    await batches.handle(records([*names(39), "no event"]))
    assert await stored(engine) == set(names(39))
    assert published.of("out.dlt") == [b"no event"]


async def test_events_that_cannot_be_published_let_no_further_transaction_begin(
    batches, effects, published, engine, monkeypatch
):
    """Kafka is away: what is committed now is published when the batch comes again."""
    effects.at_once_max = 5

    async def away(_records, *, deadline_seconds=5.0):
        raise KafkaAway

    with monkeypatch.context() as patched:
        patched.setattr(published, "publish", away)
        with pytest.raises(KafkaAway):
            await batches.handle(records(names(40)))
    assert len(effects.transactions) == 1

    await batches.handle(records(names(40)))
    assert len(published.of("out")) == 40


async def test_parts_that_were_under_way_beside_a_failing_one_are_committed_and_published(batches, effects, published, engine):
    """The batch comes again, and what they did is recognised then: nothing is half done."""

    async def lose_one(tx, items):
        await until(lambda: effects.open_max == 4, "four transactions are under way")
        if "n0" in items:
            [(pid,)] = await rows(tx, "select pg_backend_pid()")
            async with engine.connect() as other:
                await rows(other, "select pg_terminate_backend($1)", pid)

    effects.on_apply = lose_one
    with pytest.raises(engines.TROUBLE):
        await batches.handle(records(names(40)))
    assert effects.open == 0

    [lost] = [one for one in effects.transactions if "n0" in one]
    assert await stored(engine) == set(names(40)) - set(lost)
    assert len(published.of("out")) == 30


async def test_a_culprit_costs_no_other_part_anything(batches, published, engine):
    values = [*names(39), "unwanted"]
    await batches.handle(records(values))

    assert await stored(engine) == set(names(39))
    assert published.of("out.dlt") == [b"unwanted"]
    assert len(published.of("out")) == 39


async def test_a_batch_that_is_cut_off_leaves_no_transaction_behind(batches, effects, engine):
    """The end of a process, or of its time for it."""
    reached = asyncio.Event()

    async def wait(_tx, _names):
        if effects.open_max == 4:
            reached.set()
        await asyncio.Event().wait()

    effects.on_apply = wait
    handling = asyncio.create_task(batches.handle(records(names(40))))
    async with asyncio.timeout(WITHIN_SECONDS):
        await reached.wait()
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling

    assert effects.open == 0
    assert await stored(engine) == set()
