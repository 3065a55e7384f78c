"""The only place of the sandbox that asks what time it is."""

import time
from collections.abc import Callable

# Seconds since the epoch. The sandbox takes one, so that a test can live half an hour later.
Clock = Callable[[], float]


def wall() -> float:
    """Return seconds since the epoch, with a fraction."""
    return time.time()  # noqa: TID251 - the sandbox shares nothing with the pipeline, its clock included


def monotonic() -> float:
    """Return seconds that never go back, for measuring latencies."""
    return time.monotonic()


class Moving:
    """The sandbox's own clock: another one, set forward by hand. Signatures never use it."""

    def __init__(self, base: Clock) -> None:
        self.ahead_seconds = 0.0
        self._base = base

    def now(self) -> float:
        """Return this moment."""
        return self._base() + self.ahead_seconds

    def forward_to(self, moment: float) -> None:
        """Make it at least this late."""
        self.ahead_seconds = max(self.ahead_seconds, moment - self._base())

    def reset(self) -> None:
        """Go back to the clock underneath."""
        self.ahead_seconds = 0.0
