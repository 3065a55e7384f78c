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
