"""Tunes Python's garbage collector.

Enters: a process that imports, and later one that has started. Leaves: a collector that skips what the process keeps for good
(modules, settings, routes), and runs after every 50,000 new objects instead of every 700. A webhook or a batch makes many
objects and no cycles: at the default a tenth of the work is searching for them in vain. After a peak of connections free memory
is returned to the system, which neither Python nor the C library does by itself while the process lives.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS_UNTIL_COLLECTED = 50_000
COLLECTIONS_UNTIL_OLDER = 50


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable the collector while the block imports, and let it skip what was imported from then on.

    A fifth of a process's start was collecting in vain. The collector is enabled again at the end, also when an import failed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def collect_rarely() -> None:
    """Tune the collector of this process; call it once everything that stays is made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_UNTIL_COLLECTED, COLLECTIONS_UNTIL_OLDER, COLLECTIONS_UNTIL_OLDER)


def give_back() -> None:
    """Collect now, and return free memory to the system: about 40 ms, for when a peak of connections is over."""
    gc.collect()
    # https://man7.org/linux/man-pages/man3/malloc_trim.3.html; elsewhere than with glibc there is none.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
