"""Waits before the same is done again: never a busy loop, at most ten seconds, ended at once when the process stops."""

import asyncio
import random
from contextlib import suppress

DELAY_SECONDS_MIN = 0.2
DELAY_SECONDS_MAX = 10.0
DOUBLINGS_MAX = 6  # 0.2 s doubled six times passes the maximum


class Backoff:
    """Counts failures in a row and waits longer after each, with jitter so that many processes do not retry together."""

    def __init__(self) -> None:
        self.failures = 0

    def next_delay_seconds(self) -> float:
        """Return how long to wait after one more failure."""
        ceiling = min(DELAY_SECONDS_MAX, DELAY_SECONDS_MIN * float(1 << min(self.failures, DOUBLINGS_MAX)))
        self.failures += 1
        return ceiling * random.uniform(0.75, 1.0)  # noqa: S311 - jitter is no secret

    async def pause(self, stopping: asyncio.Event) -> None:
        """Wait, or return at once when `stopping` is set."""
        delay = self.next_delay_seconds()
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), delay)

    def reset(self) -> None:
        """Forget the failures: the same call succeeded."""
        self.failures = 0
