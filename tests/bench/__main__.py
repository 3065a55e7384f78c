"""`make bench`: bring services up, measure every row in interleaved rounds, print the table and `goals met N of M`."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.dev.stack import Services
from shared import settings
from shared.db import engine as engines
from shared.db import migrate
from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from shared.topics import BOOKINGS_EVENTS, STRIPE_EVENTS
from tests.bench.payloads import body_of
from tests.builders import Sale, confirmed, insert_sales
from tests.journey.pipeline import ROOT, opened, until

CONNECTIONS = 128  # Stripe delivers to one endpoint over many at once
TABLE = (("quick", 3, 4.0, 4_000), ("full", 5, 10.0, 20_000))


@dataclass
class Row:
    """One line of the table; `goal` is a lower bound of the median."""

    name: str
    unit: str
    goal: float
    figures: list[float] = field(default_factory=list)

    @property
    def median(self):
        return statistics.median(self.figures)

    @property
    def is_met(self):
        return self.median >= self.goal


async def measure(console, rounds, seconds, events):
    """Return the rows, each with a figure a round."""
    share = Row("ingress, one process, acknowledged by Kafka: share of the ceiling in the same round", "", 0.65)
    door = Row("ingress, one process, acknowledged by Kafka", "webhooks/s", 0)
    consumer = Row("payments consumer, Kafka to PostgreSQL to Kafka, committed", "events/s", 10_000)
    letters = Row("email consumer, one process, letters accepted by the mail server and recorded", "letters/s", 500)
    with tempfile.TemporaryDirectory(prefix="cb-bench-") as folder:
        root = Path(folder)
        os.chmod(root, 0o755)  # noqa: PTH101 - the database server may run as another user, who must be able to walk to its data
        services = Services(root / "box")  # durable: figures of a database that forgets would flatter us
        os.environ |= services.start()
        try:
            for number in range(1, rounds + 1):
                console.print(f"round {number} of {rounds}: ceiling, ingress, payments consumer, letters …")
                ceiling = await _ceiling(seconds)
                reached = await _ingress(root / f"ingress-{number}", seconds)
                share.figures.append(reached / ceiling)
                door.figures.append(reached)
                consumer.figures.append(await _payments(root / f"payments-{number}", events))
                letters.figures.append(await _letters(root / f"email-{number}", events // 2))
        finally:
            services.stop()
    return [share, door, consumer, letters]


async def _ceiling(seconds):
    port = 29_001
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.ceiling", str(port), cwd=ROOT)
    try:
        await until(lambda: _answers(port), "the ceiling answers", 30)
        return await _load(port, seconds)
    finally:
        process.kill()
        await process.wait()


async def _answers(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _load(port, seconds):
    generator = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.load",
        str(port),
        str(CONNECTIONS),
        str(seconds),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await generator.communicate()
    result = json.loads(said)
    if set(result["statuses"]) != {"200"}:
        raise SystemExit(f"the server under load did not answer 200 alone: {result['statuses']}")
    return result["per_second"]


async def _ingress(folder, seconds):
    async with _pipeline(folder) as (pipeline, _, _):
        await pipeline.start("ingress")
        await pipeline.until_ready("ingress")
        return await _load(pipeline.port, seconds)


async def _payments(folder, events):
    """Events of payments that exist, 2 a payment and 2 % duplicates, lie in Kafka before the consumer starts to be timed."""
    async with _pipeline(folder) as (pipeline, engine, kafka):
        sales = [Sale() for _ in range(events // 2)]
        async with engine.begin() as tx:
            await insert_sales(tx, *sales)
        bodies = [body_of(event) for sale in sales for event in (sale.succeeded(), sale.completed())]
        bodies += bodies[:: len(bodies) * 2 // 100]
        await pipeline.start("payments")
        await pipeline.until_ready("payments")
        topic = STRIPE_EVENTS.named(kafka.topic_prefix)
        started = time.perf_counter()
        async with producer.opened(kafka, client_id="bench", warm=[topic]) as publisher:
            for first in range(0, len(bodies), 1_000):
                batch = [Record(topic, uuid.uuid4().bytes, body) for body in bodies[first : first + 1_000]]
                await publisher.publish(batch, deadline_seconds=60)

        async def applied():
            async with engine.begin() as tx:
                return (await rows(tx, "select count(*) from inbox"))[0][0] >= events

        await until(applied, "every event is applied", 300)
        return events / (time.perf_counter() - started)


async def _letters(folder, letters):
    """Confirmed bookings, two letters each, lie in Kafka before the email consumer starts to be timed; a sink accepts them."""
    port = 29_002
    sink = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.sink", str(port), cwd=ROOT)
    try:
        async with _pipeline(folder) as (pipeline, engine, kafka):
            await until(lambda: _answers(port), "the sink answers", 30)
            sales = [Sale() for _ in range(letters // 2)]
            async with engine.begin() as tx:
                await insert_sales(tx, *sales, booking_status="confirmed")
            pipeline.settings["SMTP_PORT"] = str(port)
            await pipeline.start("email")
            await pipeline.until_ready("email")
            topic = BOOKINGS_EVENTS.named(kafka.topic_prefix)
            started = time.perf_counter()
            async with producer.opened(kafka, client_id="bench", warm=[topic]) as publisher:
                await publisher.publish(
                    [Record(topic, s.booking_id.encode(), confirmed(s)) for s in sales], deadline_seconds=60
                )

            async def sent():
                async with engine.begin() as tx:
                    return (await rows(tx, "select count(*) from letters where state = 'sent'"))[0][0] == letters

            await until(sent, "every letter is sent", 300)
            return letters / (time.perf_counter() - started)
    finally:
        sink.kill()
        await sink.wait()


class _pipeline:  # noqa: N801 - used as a function
    """A migrated database, topics and processes of one measurement."""

    def __init__(self, folder):
        self._folder = folder

    async def __aenter__(self):
        self._folder.mkdir()
        url = os.environ["DATABASE_URL"]
        database = settings.Database(database_url=url)
        await migrate.upgrade(database)
        self._engine = engines.create(database, application="bench")
        async with self._engine.begin() as tx:
            await tx.exec_driver_sql(
                "truncate payments, inbox, payment_ledger, payment_intents, bookings, users, letters cascade"
            )
        kafka = settings.Kafka(
            kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"b{uuid.uuid4().hex[:8]}."
        )
        self._opened = opened(database=database, kafka=kafka, folder=self._folder)
        return await self._opened.__aenter__(), self._engine, kafka

    async def __aexit__(self, *error):
        await self._opened.__aexit__(*error)
        await self._engine.dispose()


def show(console, measured, before):
    table = Table("row", "median", "spread", "goal", "")
    for row in measured:
        digits = 2 if row.goal and row.goal < 10 else 0
        spread = f"{min(row.figures):,.{digits}f} … {max(row.figures):,.{digits}f}"
        goal = f"≥ {row.goal:,.{digits}f}" if row.goal else ""
        verdict = ("met" if row.is_met else "missed") if row.goal else ""
        table.add_row(row.name, f"{row.median:,.{digits}f} {row.unit}", spread, goal, verdict)
    console.print(table)
    after = " ".join(f"{load:.1f}" for load in os.getloadavg())
    console.print(f"machine: {os.cpu_count()} cores, load {before} before, {after} after")
    with_goal = [row for row in measured if row.goal]
    console.print(f"goals met {sum(row.is_met for row in with_goal)} of {len(with_goal)}")


async def main():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three short rounds instead of five long ones")
    _, rounds, seconds, events = TABLE[0 if parser.parse_args().quick else 1]
    console = Console(width=140)
    before = " ".join(f"{load:.1f}" for load in os.getloadavg())
    show(console, await measure(console, rounds, seconds, events), before)


if __name__ == "__main__":
    asyncio.run(main())
