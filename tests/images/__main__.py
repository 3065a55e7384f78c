"""`python -m tests.images`: builds every image and sees whether it keeps what docs/containers.md promises. A line each.

Needs a Docker engine: PostgreSQL and Kafka are the official images (tests/support/containers.py), every process runs in its own
image, locked as docker-compose.yml locks it. Exits non-zero where a promise is broken. `--write` puts the figures on the page.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared import clock, settings
from shared.db import engine as engines
from shared.db.engine import rows
from tests.architecture.source import ROOT
from tests.images import contained, secured, words
from tests.images.contained import Contained, once
from tests.journey.pipeline import PROCESSES, opened
from tests.referees.__main__ import asked
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.containers import Containers
from tests.support.waiting import until

TARGETS = (*PROCESSES, "cb-ops")
ADDED_BYTES_MAX = 120_000_000
READY_SECONDS_MAX = 3.0
STARTS_MAX = 5
GRACE_SECONDS = 12  # docker-compose.yml's
SALES = 150  # enough that no process has done its part when it is told to stop
PAGE = ROOT / "docs" / "containers.md"
HEAD = "| image | adds to its base | start to ready | `docker stop` with work in flight |\n|---|---|---|---|\n"
OPERATORS = (
    ("migrate",),
    ("topics", "apply"),
    ("roles", "plan"),
    ("inbox", "prune"),
    ("attention", "list"),
    ("waiting", "list"),
    ("dlt", "list"),
    ("templates", "list"),
    ("templates", "preview", "client_confirmation"),
)


class Measured:
    """What was found, by image."""

    def __init__(self):
        self.added_bytes, self.ready_seconds, self.stop_seconds = {}, {}, {}

    def lines(self):
        """The rows of the page's table."""
        for target in TARGETS:
            ready, stop = self.ready_seconds.get(target), self.stop_seconds.get(target)
            yield (
                f"| `{target}` | {self.added_bytes[target] / 1e6:.0f} MB | {f'{ready:.1f} s' if ready else '-'} "
                f"| {f'{stop:.1f} s, status 0' if stop else '-'} |"
            )


def main():
    """Ask each; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the figures into {PAGE.relative_to(ROOT)}")
    writes = parser.parse_args().write
    measured = Measured()
    for target in TARGETS:
        contained.built(target)
    services = Containers()
    environment = services.start()
    try:
        promises = {
            f"images: each adds at most {ADDED_BYTES_MAX // 1_000_000} MB to its base": lambda: list(weighed(measured)),
            "images: letters say what they say elsewhere": lambda: list(letters()),
            "images: cb-ops does its work": lambda: list(operated(environment)),
            "images: each is soon ready, ends in time, and loses nothing": lambda: asyncio.run(lived(environment, measured)),
            "images: each lets itself into a secured Kafka, by files": lambda: asyncio.run(secured.let_in(environment)),
        }
        status = max([asked(name, ask) for name, ask in promises.items()])
    finally:
        services.stop()
    print(*measured.lines(), sep="\n")
    if writes and not status:
        PAGE.write_text(page(PAGE.read_text(), measured))
    return status


def weighed(measured):
    """How much each image adds to its base."""
    base = contained.size_bytes(contained.BASE)
    for target in TARGETS:
        added = measured.added_bytes[target] = contained.size_bytes(contained.image(target)) - base
        if added > ADDED_BYTES_MAX:
            yield f"{target} adds {added / 1e6:.0f} MB"


def letters():
    """Every amount, day and zone, as this machine's packages have them, which nobody trimmed."""
    script = Path(words.__file__)
    ran = once("email", "python", "/words.py", files={script: "/words.py"})
    if ran.returncode:
        yield ran.stderr
        return
    whole = subprocess.run([sys.executable, script], check=True, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    here, there = (dict(flat(json.loads(told))) for told in (whole.stdout, ran.stdout))
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            yield f"{name}: {there.get(name)}, not {here.get(name)}"


def flat(told):
    return (((kind, name), text) for kind, texts in told.items() for name, text in texts.items())


def operated(environment):
    """Run the operator's commands; migrations and topics come first."""
    for command in OPERATORS:
        ran = once("cb-ops", *command, environment=environment)
        if ran.returncode:
            yield f"{' '.join(command)}: {ran.returncode}: {ran.stdout}{ran.stderr}"


async def lived(environment, measured):
    """Start, knock, stop everything while it works, start again; return what was slow, what ended badly, what was lost."""
    database = settings.Database(database_url=environment["DATABASE_URL"])
    kafka = settings.Kafka(kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"])
    engine = engines.create(database, application="tests")
    sales = [Sale() for _ in range(SALES)]
    async with engine.begin() as tx:
        await insert_sales(tx, *sales)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with opened(database=database, kafka=kafka, folder=Path(folder), begin=Contained.start) as pipeline:
            for name in PROCESSES:
                measured.ready_seconds[name] = await seconds_to_ready(pipeline, name)
            knocking = asyncio.gather(*(pipeline.deliver(bytes_of(sale.succeeded())) for sale in sales))
            await until(lambda: some(pipeline, "email"), "the first letters are under way")
            for name, (status, seconds) in zip(PROCESSES, await stopped(pipeline), strict=True):
                measured.stop_seconds[name] = seconds
                if status or seconds > GRACE_SECONDS:
                    found.append(f"{name} ended with {status} after {seconds:.1f} s: {pipeline.logged(name)[-1000:]}")
            async with engine.begin() as tx:
                [(done,)] = await rows(tx, "select count(*) from letters where state = 'sent'")
            if done == 2 * SALES:
                found.append("nothing was in flight")
            # Again, and each tells which module it finds no bytecode of.
            pipeline.settings["PYTHONVERBOSE"] = "1"
            await pipeline.start(*PROCESSES)
            await knocking
            await pipeline.mailbox.wait_for_letters(2 * SALES, deadline_seconds=60)
            await pipeline.stop(*PROCESSES)
            for name in PROCESSES:
                compiled = set(re.findall(r"^# code object from '(.+\.py)'", pipeline.logged(name), re.MULTILINE))
                found += [f"{name} compiles {source} at its start: bytecode.py misses it" for source in sorted(compiled)]
            if len(pipeline.mailbox.letters) != 2 * SALES:
                found.append(f"{len(pipeline.mailbox.letters)} letters, not {2 * SALES}")
    why = once("cb-ops", "why", sales[0].payment_id, environment=environment)
    if why.returncode:
        found.append(f"cb-ops why: {why.stdout}{why.stderr}")
    await engine.dispose()
    found += [
        f"{name} is ready after {took:.1f} s" for name, took in measured.ready_seconds.items() if took > READY_SECONDS_MAX
    ]
    return found


async def seconds_to_ready(pipeline, name):
    """From the start of the container's first process until it says that it is ready; it is up then.

    Of some starts the quickest, where the first is slow: what a busy machine adds is no matter of the image's.
    """
    quickest = float("inf")
    for attempt in range(STARTS_MAX):
        if attempt:
            await pipeline.stop(name)
        await pipeline.start(name)
        await pipeline.until_ready(name)
        quickest = min(quickest, time.time() - pipeline.running(name).started_at())
        if quickest <= READY_SECONDS_MAX:
            break
    return quickest


async def some(pipeline, name):
    return (await pipeline.progress(name) or 0) > 0


async def stopped(pipeline):
    """`docker stop` to all at once; each exit status with the seconds until it."""

    async def one(name):
        begun = time.monotonic()
        return await pipeline.running(name).stopped(GRACE_SECONDS), time.monotonic() - begun

    ended = await asyncio.gather(*(one(name) for name in PROCESSES))
    await pipeline.stop(*PROCESSES)
    return ended


def page(text, measured):
    """The page with these figures in its table."""
    before, after = text.split(HEAD)
    rest = after.splitlines(keepends=True)
    while rest and rest[0].startswith("|"):
        rest.pop(0)
    rest[1] = f"Measured on {clock.now():%Y-%m-%d}, on {os.cpu_count()} cores, by `.venv/bin/python -m tests.images --write`.\n"
    return before + HEAD + "".join(f"{line}\n" for line in measured.lines()) + "".join(rest)


if __name__ == "__main__":
    sys.exit(main())
