"""How often Python looks for garbage.

Enters: a process that imports, and then has come up. Leaves: a collector that passes over what the process holds
for good (modules, settings, routes), and looks again after every 50,000 new objects instead of every 700. A webhook or a batch
makes many objects and no cycles: at the default a tenth of the work is looking for them in vain. After a crowd its memory is
given back, which neither Python nor the C library does by itself while the process lives.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS_UNTIL_COLLECTED = 50_000
COLLECTIONS_UNTIL_OLDER = 50


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the block import without a look for garbage, and pass over what it brought from then on.

    A fifth of a process's start was looking for it in vain. Afterwards it is looked for, also where an import failed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def collect_rarely() -> None:
    """Tune the collector of this process; call it once everything that stays stands."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_UNTIL_COLLECTED, COLLECTIONS_UNTIL_OLDER, COLLECTIONS_UNTIL_OLDER)


def give_back() -> None:
    """Collect now, and return free memory to the system: some 40 ms, for when a crowd has left."""
    gc.collect()
    # https://man7.org/linux/man-pages/man3/malloc_trim.3.html; elsewhere than with glibc there is none.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
