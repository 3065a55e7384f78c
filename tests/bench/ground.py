"""What every measurement stands on: a fresh database and topics, processes that are ready, generators beside them.

Enters: a folder on a durable box. Leaves: a pipeline that is taken down afterwards, and what its processes needed.
"""

import asyncio
import json
import os
import sys
import time
import uuid
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared import settings
from shared.db import engine as engines
from shared.db import migrate
from tests.journey.pipeline import ROOT, opened, spawned
from tests.load import webhooks
from tests.support.builders import Sale, insert_sales
from tests.support.waiting import until

CONNECTIONS = 128  # Stripe delivers to one endpoint over many at once
SALES_AT_ONCE = 1_000
EMPTIED = """
truncate payments, inbox, payment_ledger, payment_intents, payment_charges, bookings, booking_payments, booking_versions, users,
letters cascade
"""


@dataclass
class Needs:
    """What each process needed: seconds from its start until it was ready, and the most memory that it ever held."""

    start_seconds: list = field(default_factory=list)
    memory_mb: dict = field(default_factory=lambda: defaultdict(float))

    async def ready(self, name, pid):
        """A process is ready, and its load comes now."""


@asynccontextmanager
async def ground(folder, *, database_url=None, emptied=True):
    """A pipeline whose processes are not started yet, the engine of its database, and its topics."""
    folder.mkdir()
    database = settings.Database(database_url=database_url or os.environ["DATABASE_URL"])
    await migrate.upgrade(database)
    engine = engines.create(database, application="bench")
    if emptied:
        async with engine.begin() as tx:
            await tx.exec_driver_sql(EMPTIED)
    kafka = settings.Kafka(
        kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"b{uuid.uuid4().hex[:8]}."
    )
    async with opened(database=database, kafka=kafka, folder=folder, begin=spawned) as pipeline:
        yield pipeline, engine, kafka
    await engine.dispose()


@asynccontextmanager
async def started(pipeline, *names, needs):
    """Processes of the pipeline, all ready inside the block."""
    for name in names:
        began = time.perf_counter()
        await pipeline.start(name)
        await pipeline.until_ready(name)
        needs.start_seconds.append(time.perf_counter() - began)
        await needs.ready(name, pipeline.pid(name))
    yield
    for name in names:
        needs.memory_mb[name] = max(needs.memory_mb[name], _memory_mb(pipeline.pid(name)))


@asynccontextmanager
async def beside(module, *ports):
    """Processes of the bench's own, one for each port, which answer inside the block."""
    async with AsyncExitStack() as ending:
        for port in ports:
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, str(port), cwd=ROOT)
            ending.push_async_callback(_killed, process)
        for port in set(ports):
            await until(lambda at=port: _answers(at), f"{module} answers", deadline_seconds=30)
        yield


async def sales(engine, count, **how):
    """Write so many sales, as checkout would have left them; return them."""
    made = [Sale() for _ in range(count)]
    for first in range(0, count, SALES_AT_ONCE):
        async with engine.begin() as tx:
            await insert_sales(tx, *made[first : first + SALES_AT_ONCE], **how)
    return made


async def load(folder, ports, events, *, seconds=None):
    """Send these events over many connections, once or for so many seconds; return what the closed-loop generator tells."""
    laid = folder / "webhooks.jsonl"
    webhooks.lay(laid, events)
    more = ["--seconds", str(seconds)] if seconds else []
    generator = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.load.closed", ",".join(map(str, ports)), str(CONNECTIONS), str(laid), *more),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await generator.communicate()
    result = json.loads(said)
    only_200(result["statuses"])
    return result


def only_200(statuses):
    """A figure of a server that refuses is none."""
    if {int(status) for status in statuses} != {200}:
        raise SystemExit(f"the server under load did not answer 200 alone: {statuses}")


async def _answers(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _killed(process):
    if process.returncode is None:
        process.kill()
    await process.wait()


def _memory_mb(pid):
    """The most that a process ever held (https://man7.org/linux/man-pages/man5/proc_pid_status.5.html)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
