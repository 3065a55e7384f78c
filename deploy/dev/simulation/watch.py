"""Stops a simulation when its box has lost one of its processes."""

import asyncio
from typing import NoReturn

from deploy.dev.box import control
from deploy.dev.errors import BoxError
from deploy.dev.processes import process
from deploy.dev.state import Box

LOOK_EVERY_SECONDS = 0.5


class PieceEnded(BoxError):
    """A process of the box ended while it was needed."""


async def until_one_ends(box: Box) -> NoReturn:
    """Never return; raise PieceEnded for the first process that ended, or was restarted, since the call."""
    pids = {name: found.pid for name, found in process.remembered(box).items()}
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        now = process.remembered(box)
        ended = [name for name, pid in pids.items() if name not in now or now[name].pid != pid]
        if ended:
            logs = "".join(f"\n  its log: {box.logs / name}.log" for name in ended)
            raise PieceEnded(f"{', '.join(ended)} ended in the middle of the simulation{logs}")
        if not control.is_up(box):
            raise PieceEnded(f"the box in {box.home} went down in the middle of the simulation")
