"""Rows 4 to 7: each consumer alone, one process, with all that it is to take in Kafka before it starts.

What makes the records would take the consumer's cores away, so it has ended by then. A rate counts from the first offsets that
are committed to the last, so all of it is durable; a consumer's start is a row of its own.
"""

import time
import uuid

import asyncpg

from shared import settings
from shared.db import migrate
from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from shared.topics import BOOKINGS_EVENTS, PAYMENTS_EVENTS, STRIPE_EVENTS
from tests.bench.ground import SALES_AT_ONCE, beside, ground, sales, started
from tests.bench.payloads import body_of
from tests.support.builders import confirmed, paid
from tests.support.members import administration
from tests.support.plans import FILL
from tests.support.waiting import until

SINK_PORT = 29_002
COPIES_EVERY = 50
INBOX_PER_PAYMENT = 5
GROWN = ("users", "bookings", "payments (", "payment_intents", "payment_charges")
FILL_INBOX = """
insert into inbox (consumer, created, event_id, emitted, topic, "partition", "offset")
select 'payments', now() - make_interval(secs => n % 2592000), 'evt_' || md5(n::text), array['x'::bytea], 'stripe.events', 0, n
from generate_series(1, {count}) n
"""


async def measured(folder, events, needs, *, grown_url):
    """Return the figures of rows 4 to 7; `grown_url` is the database that `grown` filled."""
    folder.mkdir()
    small = await payments(folder / "payments", events, needs)
    large = await payments(folder / "grown", events, needs, database_url=grown_url)
    return {
        "4": small,
        "5": large / small,
        "6": await bookings(folder / "bookings", events, needs),
        "7": await letters(folder / "email", events // 2, needs),
    }


async def grown(url, count):
    """Make a database of so many payments, with five inbox rows for each, on the server of `url`; return its address."""
    server, _, _ = url.rpartition("/")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("create database bench_grown")
    await connection.close()
    database = settings.Database(database_url=f"{server}/bench_grown")
    await migrate.upgrade(database)
    connection = await asyncpg.connect(database.database_url.get_secret_value().replace("+asyncpg", ""))
    for table, values in FILL.items():
        if table.startswith(GROWN):
            await connection.execute(f"insert into {table} select {values} from generate_series(1, {count}) n", timeout=600)
    await connection.execute(FILL_INBOX.format(count=count * INBOX_PER_PAYMENT), timeout=600)
    await connection.execute("vacuum analyze", timeout=600)
    await connection.close()
    return database.database_url.get_secret_value()


async def payments(folder, events, needs, *, database_url=None):
    """Two events a payment, and a copy of every fiftieth; the figure counts events, not copies."""
    async with ground(folder, database_url=database_url, emptied=database_url is None) as (pipeline, engine, kafka):
        sold = await sales(engine, events // 2)
        bodies = [body_of(event) for sale in sold for event in (sale.succeeded(), sale.completed())]
        topic = STRIPE_EVENTS.named(kafka.topic_prefix)
        records = [Record(topic, uuid.uuid4().bytes, body) for body in bodies + bodies[::COPIES_EVERY]]
        await _lay(kafka, records)
        async with started(pipeline, "payments", needs=needs):
            return await _committed_per_second(kafka, "payments", len(records)) * len(bodies) / len(records)


async def bookings(folder, events, needs):
    """Payments that succeeded, each of a booking of its own."""
    async with ground(folder) as (pipeline, engine, kafka):
        topic = PAYMENTS_EVENTS.named(kafka.topic_prefix)
        records = [Record(topic, sale.payment_id.encode(), paid(sale)) for sale in await sales(engine, events)]
        await _lay(kafka, records)
        async with started(pipeline, "bookings", needs=needs):
            return await _committed_per_second(kafka, "bookings", len(records))


async def letters(folder, count, needs):
    """Two letters for each confirmed booking; a sink of ours accepts them."""
    async with beside("tests.bench.sink", SINK_PORT), ground(folder) as (pipeline, engine, kafka):
        pipeline.settings["SMTP_PORT"] = str(SINK_PORT)
        topic = BOOKINGS_EVENTS.named(kafka.topic_prefix)
        sold = await sales(engine, count // 2, booking_status="confirmed")
        await _lay(kafka, [Record(topic, sale.booking_id.encode(), confirmed(sale)) for sale in sold])
        async with started(pipeline, "email", needs=needs):
            return await _sent_per_second(engine, count)


async def _lay(kafka, records):
    async with producer.opened(kafka, client_id="bench", warm=[records[0].topic]) as publisher:
        for first in range(0, len(records), SALES_AT_ONCE):
            await publisher.publish(records[first : first + SALES_AT_ONCE], deadline_seconds=60)


async def _committed_per_second(kafka, group, count):
    async with administration(kafka) as admin:

        async def committed():
            offsets = await admin.list_consumer_group_offsets(kafka.topic_prefix + group)
            return sum(max(at.offset, 0) for at in offsets.values())

        return await _per_second(committed, count)


async def _sent_per_second(engine, count):
    async def sent():
        async with engine.begin() as tx:
            return (await rows(tx, "select count(*) from letters where state = 'sent'"))[0][0]

    return await _per_second(sent, count)


async def _per_second(done, count):
    """Return how many `done` counts a second, from the first that it counts to all."""
    seen = 0

    async def has_reached(wanted):
        nonlocal seen
        seen = await done()
        return seen >= wanted

    await until(lambda: has_reached(1), "the first is done", deadline_seconds=60)
    first, began = seen, time.perf_counter()
    await until(lambda: has_reached(count), f"{count} are done", deadline_seconds=300)
    return (seen - first) / (time.perf_counter() - began)
