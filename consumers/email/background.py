"""Tasks that no batch waits for: slow conversations, and the recording of what the database did not take at first.

Enters: a task. Leaves: a log line when it failed. Its letter is safe then: it comes again by its ticket in the first step or
with its batch, and a 250 that is not recorded yet waits in memory (accepted.py).
"""

import asyncio

from shared import logs

log = logs.get(__name__)

SETTLE_SECONDS_MAX = 1.0


class Background:
    """The tasks of one sender that go on by themselves."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, task: "asyncio.Task[None]") -> None:
        """Let a task go on by itself until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def settle(self) -> None:
        """Wait, for a second at most, for the tasks that are under way: leases protect the letters of the others."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_SECONDS_MAX)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("letter.background_failed", error=type(error).__name__)
