"""The only place that asks what time it is.

Pure code takes a moment as an argument; whoever calls it asks here.
"""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return this moment as an aware UTC datetime (microseconds)."""
    return datetime.now(UTC)  # noqa: TID251 - this is the home of that call


def monotonic() -> float:
    """Return seconds that never go back, for measuring durations and deadlines."""
    return time.monotonic()
