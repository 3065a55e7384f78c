"""`make bench`: bring services up, measure every row in interleaved rounds, print the table and `goals met N of M`.

A round in which the machine itself was slower than its own median by a quarter, or stood still, is dropped, and said so: on
a shared machine another's work would be taken for ours. In full it writes docs/bench.md and docs/bench.json; `--quick`
writes nothing.
"""

import argparse
import asyncio
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deploy.dev.services.stack import Services
from tests.bench import consumers, machine, page
from tests.bench.measures import a_round
from tests.bench.rows import table

QUICK = {"rounds": 1, "seconds": 3.0, "events": 4_000, "grown_payments": 20_000}
FULL = {"rounds": 3, "seconds": 10.0, "events": 20_000, "grown_payments": 1_000_000}


async def measure(console, rounds, seconds, events, grown_payments):
    """Return the rows with a figure for each round that counts, and what is to be said of the machine."""
    taken = []
    with tempfile.TemporaryDirectory(prefix="cb-bench-") as folder:
        root = Path(folder)
        os.chmod(root, 0o755)  # noqa: PTH101 - the database server may run as another user, who must be able to walk to its data
        services = Services(root / "box")  # durable: figures of a database that forgets would flatter us
        os.environ |= services.start()
        try:
            console.print(f"a database of {grown_payments:,} payments is filled")
            grown_url = await consumers.grown(os.environ["DATABASE_URL"], grown_payments)
            for number in range(1, rounds + 1):
                with machine.watched() as seen:
                    figures, reached = await a_round(root / str(number), seconds=seconds, events=events, grown_url=grown_url)
                taken.append((seen, figures))
                told = f"{reached['door']:,.0f} webhooks/s of {reached['ceiling']:,.0f}"
                console.print(f"round {number} of {rounds}: {told}; the machine: {seen}")
        finally:
            services.stop()
    kept = machine.quiet(taken)
    measured = table()
    for figures in kept:
        for number, figure in figures.items():
            measured[number].figures.append(figure)
    dropped = f"{len(taken) - len(kept)} of {len(taken)} rounds dropped as noisy (the machine: {machine.told(taken)})"
    return list(measured.values()), dropped


async def main():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, and the page stays as it is")
    quick = parser.parse_args().quick
    console = Console(width=150)
    before = _load()
    measured, dropped = await measure(console, **(QUICK if quick else FULL))
    told = [
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores",
        f"load {before} before, {_load()} after",
        dropped,
    ]
    console.print(page.shown(measured))
    console.print(*told, sep="\n")
    if not quick:
        page.written(measured, told)
    console.print(page.verdict(measured))


def _load():
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


if __name__ == "__main__":
    asyncio.run(main())
