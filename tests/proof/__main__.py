"""`make proof`: bring a box up, run every proof in its full form with its progress, and write docs/proofs.md when all held."""

import argparse
import asyncio
import logging
import os
import platform
import sys
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deploy.dev.services.stack import Services
from shared import clock, settings
from shared.db import engine as engines
from shared.db import migrate
from tests.journey.pipeline import ROOT, opened
from tests.proof import fold, permutations, processes, randomly, storm
from tests.proof.page import page
from tests.proof.result import Proved

PAGE = ROOT / "docs" / "proofs.md"
SEED = 20_261_124


class Ground:
    """The box under the proofs: each that asks gets an empty database, and its own topics and processes."""

    def __init__(self, folder):
        self.database = settings.Database(database_url=os.environ["DATABASE_URL"])
        self._folder = folder

    @asynccontextmanager
    async def engine(self):
        """An engine on a database that was emptied and migrated anew."""
        made = engines.create(self.database, application="proof")
        async with made.begin() as tx:
            await tx.exec_driver_sql("drop schema public cascade")
            await tx.exec_driver_sql("create schema public")
        await migrate.upgrade(self.database)
        try:
            yield made
        finally:
            await made.dispose()

    @asynccontextmanager
    async def pipeline(self):
        """A pipeline whose processes are not started, its engine, and its Kafka settings."""
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        kafka = settings.Kafka(kafka_bootstrap_servers=servers, topic_prefix=f"p{uuid.uuid4().hex[:8]}.")
        async with self.engine() as engine, opened(database=self.database, kafka=kafka, folder=folder) as pipeline:
            yield pipeline, engine, kafka


async def every_sequence(_ground, quick, progress):
    return await asyncio.to_thread(fold.every_sequence, 4 if quick else 6, progress)


async def longer_lives(_ground, quick, _progress):
    return await asyncio.to_thread(fold.beyond, 1_000 if quick else 10_000, seed=SEED)


async def every_order(ground, quick, progress):
    async with ground.engine() as engine:
        sample = 50 if quick else None
        return await permutations.every_order(ground.database, engine, seed=SEED, sample=sample, progress=progress)


async def drawn_lives(ground, quick, progress):
    async with ground.engine() as engine:
        payments = 1_000 if quick else 20_000
        return await randomly.against_the_oracle(ground.database, engine, seed=SEED, payments=payments, progress=progress)


async def through_kafka(ground, quick, progress):
    async with ground.pipeline() as (pipeline, engine, kafka):
        payments = 1_000 if quick else 20_000
        return await processes.through_kafka(pipeline, engine, kafka, seed=SEED + 1, payments=payments, progress=progress)


async def while_killed(ground, quick, progress):
    events, kills = (600, 3) if quick else (6_000, 15)
    async with ground.pipeline() as (pipeline, engine, kafka):
        return await processes.while_killed(
            pipeline, engine, kafka, seed=SEED + 2, events=events, kills=kills, progress=progress
        )


async def racing_consumers(ground, quick, progress):
    seconds = 20 if quick else 300
    async with ground.engine():
        report = await storm.run(ground.database, seconds=seconds, seed=SEED, told=lambda r: progress(r.seconds, seconds))
    return Proved(
        title=f"A storm of {storm.PAYMENTS_CONSUMERS} payments and {storm.BOOKINGS_CONSUMERS} bookings consumers",
        how=f"All consumers process the same payments at once for {seconds} seconds, with copies, disorder and crashes before "
        "publishing: no deadlock, versions rise one by one, and every end is the one written by hand beside its story.",
        cases={name: count for name, count in vars(report).items() if name != "seconds"},
        seed=SEED,
    )


PROOFS = (every_sequence, longer_lives, every_order, drawn_lives, racing_consumers, through_kafka, while_killed)


async def prove(console, folder, *, quick):
    """Run every proof; return each with its seconds. The first that fails ends the run with its counterexample."""
    ground, proved = Ground(folder), []
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    for proof in PROOFS:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
            task = shown.add_task(proof.__name__.replace("_", " "), total=None)
            began = time.monotonic()
            one = await proof(ground, quick, lambda done, total, t=task, s=shown: s.update(t, completed=done, total=total))
            seconds = time.monotonic() - began
        cases = ", ".join(f"{count:,} {name}" for name, count in one.cases.items())
        console.print(f"held in {seconds:5.0f} s  {one.title}: {cases}", highlight=False)
        proved.append((one, seconds))
    return proved


async def main():
    """Run; the page is written only by the full form."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute's worth of each, and no page")
    quick = parser.parse_args().quick
    console = Console(width=140)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="cb-proof-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)  # noqa: PTH101 - the database server may run as another user, who must be able to walk there
        services = Services(folder / "box", durable=False)
        os.environ |= services.start()
        try:
            proved = await prove(console, folder, quick=quick)
        finally:
            services.stop()
    if not quick:
        PAGE.write_text(page(proved, day=f"{clock.now():%Y-%m-%d}", python=platform.python_version()))
        console.print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
