"""One round of every row, in the order of the table; what enters and leaves is told where each is measured.

Enters: a folder, how long to load, how many events, and the database that has grown. Leaves: figures by row.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.bench import consumers, door, whole
from tests.bench.ground import Needs, beside
from tests.bench.sandbox import payments_per_second_and_start_seconds
from tests.journey.pipeline import ROOT


async def a_round(folder, *, seconds, events, grown_url):
    """Measure every row once; return figures by row, and for the reader the webhooks a second of ceiling and door."""
    needs = Needs()
    folder.mkdir()
    figures, reached = await door.measured(folder / "door", seconds, needs)
    figures |= await consumers.measured(folder / "consumers", events, needs, grown_url=grown_url)
    figures |= await whole.measured(folder / "whole", seconds, events, needs)
    figures |= {"12": max(needs.memory_mb.values()), "13": max(needs.start_seconds), "14": await _demo()}
    async with beside("tests.bench.ceiling", door.CEILING_PORT):
        figures["15"], figures["16"] = await payments_per_second_and_start_seconds(door.CEILING_PORT, seconds=seconds)
    return figures, reached


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
