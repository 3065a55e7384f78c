"""Kill each consumer at every crossing between "record read" and "offset committed": nothing is lost, nothing done twice."""

import asyncio
import json
import sys
from collections import Counter

import pytest

from shared import topics
from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from tests.journey.pipeline import ROOT
from tests.journey.zygote import SENTINEL
from tests.support.builders import Sale, bytes_of, confirmed, insert_sales, paid
from tests.support.waiting import until

CROSSINGS_MAX = 80
CROSSINGS_MIN = 8  # fewer would mean that the instruments do not see the consumer's steps


class Zygote:
    """The forking process of one consumer."""

    def __init__(self, process):
        self._process = process

    async def live(self, fatal_crossing, *, left_behind):
        """Let one child live, which dies at that crossing of the batch that comes after what another left behind."""
        self._process.stdin.write(f"{fatal_crossing} {left_behind}\n".encode())
        await self._process.stdin.drain()

    async def told(self):
        """Return what becomes of the child: that it recovered, that it was killed, or that it is done."""
        async with asyncio.timeout(60):
            return (await self._process.stdout.readline()).decode().strip()


@pytest.fixture
async def publisher(pipeline, kafka):
    async with producer.opened(kafka, client_id="tests") as opened:
        yield opened


@pytest.fixture
async def zygote(request, pipeline):
    name = request.param
    with (pipeline._logs / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.journey.zygote",
            name,
            cwd=ROOT,
            env=pipeline.environment(name) | {"HEALTH_PORT": "0"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    yield Zygote(process)
    process.stdin.close()
    async with asyncio.timeout(30):
        await process.wait()


async def die_everywhere(zygote, feed, topic, publisher):
    """Kill at crossing 1, 2, 3 … each on a fresh batch, which the next life takes first, until one passes with no kill left."""
    for crossing in range(1, CROSSINGS_MAX):
        left_behind = crossing > 1
        await zygote.live(crossing, left_behind=left_behind)
        if left_behind:
            assert await zygote.told() == "recovered"
        await publisher.publish([*(await feed()), Record(topic, SENTINEL, b"{}")])
        if (told := await zygote.told()) == "done":
            assert crossing > CROSSINGS_MIN
            return crossing - 1
        assert told == "killed"
    raise AssertionError(f"more than {CROSSINGS_MAX} crossings")


async def sell(engine, sales, **columns):
    """Return a sale that is new in the database, and add it to `sales`."""
    sale = Sale()
    sales.append(sale)
    async with engine.begin() as tx:
        await insert_sales(tx, sale, **columns)
    return sale


async def read_all(kafka, topic):
    """Every record of a topic, by a client of its own."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from shared.kafka import connection

    reader = AIOKafkaConsumer(**connection.for_aiokafka(kafka), auto_offset_reset="earliest")
    await reader.start()
    partitions = [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic) or await _look_up(reader, topic))]
    reader.assign(partitions)
    ends = await reader.end_offsets(partitions)
    found = []
    for partition, end in ends.items():
        while await reader.position(partition) < end:
            found += [r for rs in (await reader.getmany(partition, timeout_ms=500)).values() for r in rs]
    await reader.stop()
    return found


async def _look_up(reader, topic):
    return (await reader._client.fetch_all_metadata()).partitions_for_topic(topic)


@pytest.mark.parametrize("zygote", ["payments"], indirect=True)
async def test_the_payments_consumer_may_die_at_any_crossing(zygote, publisher, kafka, engine):
    """Each payment is applied once, each change has one event id, and a refund that waited is not forgotten."""
    topic = topics.STRIPE_EVENTS.named(kafka.topic_prefix)
    sales = []

    async def feed():
        sale = await sell(engine, sales)
        events = (sale.refunded(2500), sale.succeeded())
        # One partition, so that the batch is one: the crossing's number means the same step every time.
        return [Record(topic, SENTINEL, bytes_of(event)) for event in events]

    crossings = await die_everywhere(zygote, feed, topic, publisher)

    async with engine.begin() as tx:
        payments = await rows(tx, "select id::text, status::text, amount_refunded_minor, version from payments")
        ledger = await rows(tx, "select payment_id::text, event_id from payment_ledger where decision = 'applied'")
        waiting = await rows(tx, "select count(*) from waiting_events")
    assert {tuple(row) for row in payments} == {(sale.payment_id, "succeeded", 2500, 2) for sale in sales}
    assert Counter(payment for payment, _ in ledger) == Counter({sale.payment_id: 2 for sale in sales})
    assert waiting == [(0,)]
    events = [json.loads(r.value) for r in await read_all(kafka, topics.PAYMENTS_EVENTS.named(kafka.topic_prefix))]
    told = {(event["subject"], event["data"]["version"], event["id"]) for event in events}
    assert Counter(subject for subject, _, _ in told) == Counter({sale.payment_id: 2 for sale in sales})
    assert crossings == len(sales) - 1


@pytest.mark.parametrize("zygote", ["bookings"], indirect=True)
async def test_the_bookings_consumer_may_die_at_any_crossing(zygote, publisher, kafka, engine):
    """Each booking is confirmed once, and told under one event id."""
    topic = topics.PAYMENTS_EVENTS.named(kafka.topic_prefix)
    sales = []

    async def feed():
        return [Record(topic, SENTINEL, paid(await sell(engine, sales)))]

    await die_everywhere(zygote, feed, topic, publisher)

    async with engine.begin() as tx:
        bookings = await rows(tx, "select id::text, status::text, payment_id::text from bookings")
        versions = await rows(tx, "select booking_id::text, version from booking_versions")
    assert {tuple(row) for row in bookings} == {(sale.booking_id, "confirmed", sale.payment_id) for sale in sales}
    assert {tuple(row) for row in versions} == {(sale.booking_id, 1) for sale in sales}
    events = [json.loads(r.value) for r in await read_all(kafka, topics.BOOKINGS_EVENTS.named(kafka.topic_prefix))]
    told = {(event["subject"], event["type"], event["id"]) for event in events}
    assert Counter(subject for subject, _, _ in told) == Counter(sale.booking_id for sale in sales)


@pytest.mark.parametrize("zygote", ["email"], indirect=True)
async def test_the_email_consumer_may_die_at_any_crossing(zygote, publisher, kafka, engine, pipeline):
    """Each person gets each letter; a second copy only where the ledger counts one, since a kill hit the letter in flight."""
    topic = topics.BOOKINGS_EVENTS.named(kafka.topic_prefix)
    sales = []

    async def feed():
        return [Record(topic, SENTINEL, confirmed(await sell(engine, sales, booking_status="confirmed")))]

    await die_everywhere(zygote, feed, topic, publisher)
    async with engine.begin() as tx:
        # What the dead held is free now instead of half a minute later.
        await rows(tx, "update letters set lease_until = now() where state = 'sending' returning id")
    await pipeline.start("email")

    async def all_sent():
        async with engine.begin() as tx:
            return await rows(tx, "select count(*) from letters where state = 'sent'") == [(2 * len(sales),)]

    await until(all_sent, "every letter is sent", deadline_seconds=90, every_seconds=0.2)
    copies = Counter(letter.message_id for letter in pipeline.mailbox.letters)
    async with engine.begin() as tx:
        counted = dict(await rows(tx, "select message_id, possible_duplicates from letters"))
    assert copies.keys() == counted.keys()
    assert {message_id for message_id, count in copies.items() if count > 1 + counted[message_id]} == set()
    # A kill hits a letter once, and most of them come before DATA or after its record: those may repeat nothing.
    assert max(counted.values()) == 1
    assert sum(counted.values()) < len(sales)
