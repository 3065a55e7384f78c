"""`make chaos-letters`: the three bad days in full, on a box of their own; writes docs/letters.md when all of it held.

`--quick` runs shorter and writes nothing.
"""

import argparse
import asyncio
import logging
import os
import platform
import statistics
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from rich.console import Console

from deploy.dev.services.stack import Services
from shared import clock, settings
from shared.db import engine as engines
from shared.db import migrate
from tests.chaos import cases
from tests.journey.pipeline import ROOT, opened
from tests.support import certificates

PAGE = ROOT / "docs" / "letters.md"
HEAD, END = "<!-- measured: make chaos-letters -->\n", "<!-- /measured -->\n"
RETRY_LATE_SECONDS_MAX = 1.5
LATENESS_P99_SECONDS_MAX = 1.0
SEED = 20_261_124


@dataclass(frozen=True)
class Forms:
    """How long and how often."""

    others: int
    climb_seconds: float
    down_seconds: float
    password_seconds: float
    kills: int
    bookings_per_second: float


FULL = Forms(others=200, climb_seconds=30, down_seconds=120, password_seconds=60, kills=16, bookings_per_second=50)
QUICK = Forms(others=40, climb_seconds=5, down_seconds=15, password_seconds=12, kills=3, bookings_per_second=50)


@asynccontextmanager
async def ground(root, **mailbox):
    """A pipeline on an emptied database, its engine, and a function that publishes."""
    folder = root / uuid.uuid4().hex
    folder.mkdir()
    database = settings.Database(database_url=os.environ["DATABASE_URL"])
    engine = engines.create(database, application="chaos")
    async with engine.begin() as tx:
        await tx.exec_driver_sql("drop schema public cascade")
        await tx.exec_driver_sql("create schema public")
    await migrate.upgrade(database)
    kafka = settings.Kafka(
        kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"c{uuid.uuid4().hex[:8]}."
    )
    async with (
        opened(database=database, kafka=kafka, folder=folder, **mailbox) as pipeline,
        cases.publishing(pipeline, kafka) as publish,
    ):
        yield pipeline, engine, publish
    await engine.dispose()


async def full_mailbox(root, forms):
    async with ground(root) as (pipeline, engine, publish):
        late, took = await cases.full_mailbox(pipeline, engine, publish, others=forms.others, seconds=forms.climb_seconds)
    p99 = statistics.quantiles(took, n=100)[98]
    held = max(late) <= RETRY_LATE_SECONDS_MAX and p99 < LATENESS_P99_SECONDS_MAX
    retries = ", ".join(f"+{seconds:.2f}" for seconds in late)
    return (
        f"a recipient that is always answered 450 among {len(took)} other letters",
        "each retry after 1, 2, 4, 8, 16 s, early by nothing and late by 1.5 s at most; p99 of the others below 1 s",
        f"retries {retries} s; the others p50 {statistics.median(took):.2f} s, p99 {p99:.2f} s; one dead letter",
        held,
    )


async def away(root, forms):
    certificate = certificates.make(root)
    async with ground(root, tls=certificates.serving(certificate), login=cases.LOGIN) as (pipeline, engine, publish):
        ledger, recovered_seconds = await cases.away(
            pipeline,
            engine,
            publish,
            certificate,
            down_seconds=forms.down_seconds,
            password_seconds=forms.password_seconds,
            bookings_per_second=2,
        )
    return (
        f"the mail server down for {forms.down_seconds:.0f} s, then a wrong password for {forms.password_seconds:.0f} s",
        "no dead letter, all delivered after, none twice; readiness tells both reasons",
        (
            f"{ledger.states['sent']} letters, 0 dead, 0 twice, attempts at most {ledger.attempts_max}; "
            f"all sent {recovered_seconds:.0f} s after the server was well"
        ),
        True,
    )


async def killed(root, forms):
    async with ground(root) as (pipeline, engine, publish):
        ledger, rate = await cases.killed(
            pipeline,
            engine,
            publish,
            kills=forms.kills,
            bookings_per_second=forms.bookings_per_second,
            seed=SEED,
            leases_end_with_their_holder=False,
        )
    return (
        (f"the email process killed with -9 {forms.kills} times, each 0.3 to 2 s after progress, under {rate:.0f} bookings/s"),
        (
            "every due letter accepted; second copies only of letters in flight at a kill, same Message-ID, counted; none to "
            "people who are due none"
        ),
        (
            f"{ledger.states['sent']} due and sent, {ledger.states['suppressed']} suppressed and unsent; {ledger.duplicates} "
            f"arrived twice, {ledger.possible_duplicates} counted as perhaps twice"
        ),
        True,
    )


def page(results, *, day, python):
    """Return docs/letters.md with this table in place of the last one."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    _, _, after = rest.partition(END)
    lines = "".join(f"| {what} | {must} | {saw} |\n" for what, must, saw, _ in results)
    told = f"Run on {day} with Python {python}, {os.cpu_count()} cores, PostgreSQL and Kafka of the box.\n"
    return f"{before}{HEAD}| what was done | what must hold | what was seen |\n|---|---|---|\n{lines}\n{told}{END}{after}"


async def main():
    parser = argparse.ArgumentParser(prog="make chaos-letters", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and docs/letters.md stays as it is")
    parser.add_argument("--only", choices=["full_mailbox", "away", "killed"], help="one case, and the page stays as it is")
    given = parser.parse_args()
    forms, console = QUICK if given.quick else FULL, Console(width=160)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own deprecations
    results = []
    with tempfile.TemporaryDirectory(prefix="cb-chaos-") as folder:
        root = Path(folder)
        os.chmod(root, 0o755)  # noqa: PTH101 - the database server may run as another user, who must be able to walk to its data
        services = Services(root / "box")
        os.environ |= services.start()
        try:
            for case in [one for one in (full_mailbox, away, killed) if given.only in {None, one.__name__}]:
                console.print(f"{case.__name__} …")
                began = time.monotonic()
                results.append(await case(root, forms))
                what, _, saw, held = results[-1]
                console.print(f"{'held' if held else 'DID NOT HOLD'} after {time.monotonic() - began:.0f} s: {what}: {saw}")
        finally:
            services.stop()
    if not all(held for *_, held in results):
        return 1
    if not given.quick and not given.only:
        PAGE.write_text(page(results, day=f"{clock.now():%Y-%m-%d}", python=platform.python_version()))
        console.print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
