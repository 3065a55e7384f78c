"""One round of every row: the processes themselves, on a durable box, with a fresh database and topics for each measurement.

What enters: a folder, how long to load, how many events. What leaves: figures by the row's number.
"""

import asyncio
import json
import os
import sys
import time
import uuid
from collections import defaultdict
from contextlib import asynccontextmanager
from pathlib import Path

from shared import messages, settings
from shared.clock import now
from shared.db import engine as engines
from shared.db import migrate
from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from shared.messages import PaymentState
from shared.topics import BOOKINGS_EVENTS, PAYMENTS_EVENTS, STRIPE_EVENTS
from tests.bench.payloads import body_of
from tests.bench.sandbox import payments_per_second_and_start_seconds
from tests.builders import Sale, confirmed, insert_sales
from tests.journey.pipeline import ROOT, opened, until

CONNECTIONS = 128  # Stripe delivers to one endpoint over many at once
CEILING_PORT, SINK_PORT = 29_001, 29_002
SALES_AT_ONCE = 1_000
EMPTIED = """
truncate payments, inbox, payment_ledger, payment_intents, payment_charges, bookings, booking_payments, booking_versions, users,
letters cascade
"""


async def a_round(folder, *, seconds, events):
    """Measure every row once; return figures by row number, and for the reader the door's webhooks a second."""
    seen = defaultdict(list)
    folder.mkdir()
    ceiling = await _ceiling(seconds)
    door = await _door(folder / "door", seconds, seen)
    figures = {
        1: door / ceiling,
        4: await _payments(folder / "payments", events, seen),
        6: await _bookings(folder / "bookings", events, seen),
        7: await _letters(folder / "email", events // 2, seen),
        14: await _demo(),
    }
    figures[15], figures[16] = await _sandbox(seconds)
    return figures | {12: max(seen["memory_mb"]), 13: max(seen["start_seconds"])}, {"ceiling": ceiling, "door": door}


async def _ceiling(seconds):
    async with _beside("tests.bench.ceiling", CEILING_PORT):
        return await _load(CEILING_PORT, seconds)


async def _door(folder, seconds, seen):
    async with _ground(folder) as (pipeline, _, _), _started(pipeline, "ingress", seen):
        return await _load(pipeline.port, seconds)


async def _payments(folder, events, seen):
    """Two events a payment and 2 % copies are published while the consumer takes them."""
    async with _ground(folder) as (pipeline, engine, kafka):
        sales = await _sales(engine, events // 2)
        bodies = [body_of(event) for sale in sales for event in (sale.succeeded(), sale.completed())]
        bodies += bodies[:: len(bodies) * 2 // 100]
        records = [Record(STRIPE_EVENTS.named(kafka.topic_prefix), uuid.uuid4().bytes, body) for body in bodies]
        async with _started(pipeline, "payments", seen):
            return await _rate(kafka, records, engine, "select count(*) from inbox where consumer = 'payments'", events)


async def _bookings(folder, events, seen):
    """Payments that succeeded, each of a booking of its own."""
    async with _ground(folder) as (pipeline, engine, kafka):
        sales = await _sales(engine, events)
        topic = PAYMENTS_EVENTS.named(kafka.topic_prefix)
        records = [Record(topic, sale.payment_id.encode(), _paid(sale)) for sale in sales]
        async with _started(pipeline, "bookings", seen):
            return await _rate(kafka, records, engine, "select count(*) from inbox where consumer = 'bookings'", events)


async def _letters(folder, letters, seen):
    """Two letters for each confirmed booking; a sink of ours accepts them."""
    async with _beside("tests.bench.sink", SINK_PORT), _ground(folder) as (pipeline, engine, kafka):
        sales = await _sales(engine, letters // 2, booking_status="confirmed")
        pipeline.settings["SMTP_PORT"] = str(SINK_PORT)
        topic = BOOKINGS_EVENTS.named(kafka.topic_prefix)
        records = [Record(topic, sale.booking_id.encode(), confirmed(sale)) for sale in sales]
        async with _started(pipeline, "email", seen):
            return await _rate(kafka, records, engine, "select count(*) from letters where state = 'sent'", letters)


async def _sandbox(seconds):
    async with _beside("tests.bench.ceiling", CEILING_PORT):
        return await payments_per_second_and_start_seconds(CEILING_PORT, seconds=seconds)


async def _demo():
    """The demonstration without a terminal, in the project's own box, which it leaves as warm as it found it."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("cb-dev"), "demo", cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, env=_outside()
    )
    if await process.wait():
        raise SystemExit("make demo failed")
    return time.perf_counter() - began


def _outside():
    """The environment without the bench's own box in it."""
    return {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"}}


def _paid(sale):
    state = PaymentState(
        payment_id=uuid.UUID(sale.payment_id),
        booking_id=uuid.UUID(sale.booking_id),
        version=1,
        status="succeeded",
        paid=True,
        cancel_due=False,
        amount_minor=sale.amount_minor,
        currency=sale.currency,
        amount_refunded_minor=0,
        failure_reason=None,
        dispute_open=False,
        closed_reason=None,
        slot_free=False,
    )
    return messages.payment_event("payment.succeeded", state, cause=sale.tag, at=now())


async def _sales(engine, count, **how):
    sales = [Sale() for _ in range(count)]
    for first in range(0, count, SALES_AT_ONCE):
        async with engine.begin() as tx:
            await insert_sales(tx, *sales[first : first + SALES_AT_ONCE], **how)
    return sales


async def _rate(kafka, records, engine, done, count):
    """Publish, wait until `done` counts `count`, and return how many that is a second."""
    began = time.perf_counter()
    async with producer.opened(kafka, client_id="bench", warm=[records[0].topic]) as publisher:
        for first in range(0, len(records), SALES_AT_ONCE):
            await publisher.publish(records[first : first + SALES_AT_ONCE], deadline_seconds=60)

    async def is_done():
        async with engine.begin() as tx:
            return (await rows(tx, done))[0][0] >= count

    await until(is_done, f"{count} are done", 300)
    return count / (time.perf_counter() - began)


async def _load(port, seconds):
    generator = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.load", str(port), str(CONNECTIONS), str(seconds)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await generator.communicate()
    result = json.loads(said)
    if set(result["statuses"]) != {"200"}:
        raise SystemExit(f"the server under load did not answer 200 alone: {result['statuses']}")
    return result["per_second"]


async def _answers(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _beside(module, port):
    """A process of the bench's own, which answers at `port` inside the block."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, str(port), cwd=ROOT)
    try:
        await until(lambda: _answers(port), f"{module} answers", 30)
        yield
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _started(pipeline, name, seen):
    """One process of the pipeline, ready inside the block; how long it took and how large it grew go to `seen`."""
    began = time.perf_counter()
    await pipeline.start(name)
    await pipeline.until_ready(name)
    seen["start_seconds"].append(time.perf_counter() - began)
    yield
    seen["memory_mb"].append(_memory_mb(pipeline.pid(name)))


def _memory_mb(pid):
    """The most that a process ever held (https://man7.org/linux/man-pages/man5/proc_pid_status.5.html)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@asynccontextmanager
async def _ground(folder):
    """A migrated, empty database, its engine and topics, for one measurement."""
    folder.mkdir()
    database = settings.Database(database_url=os.environ["DATABASE_URL"])
    await migrate.upgrade(database)
    engine = engines.create(database, application="bench")
    async with engine.begin() as tx:
        await tx.exec_driver_sql(EMPTIED)
    kafka = settings.Kafka(
        kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"b{uuid.uuid4().hex[:8]}."
    )
    async with opened(database=database, kafka=kafka, folder=folder) as pipeline:
        yield pipeline, engine, kafka
    await engine.dispose()
