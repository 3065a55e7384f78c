"""How a process ends that is told to before it has come up: at once, with status 0.

While it imports and reads its settings, for a second, or ten where the machine is busy, nothing is under way. Left to the
system it would end as one that was killed; in a container, whose first process it is, it would not even hear of a SIGTERM:
that one gets no signal that it has no handler for (pid_namespaces(7)). Enters: nothing. Leaves: handlers, until the event loop
has its own. Next: garbage.py, under which the imports go on.
"""

import os
import signal
from types import FrameType


def may_end() -> None:
    """End at once by SIGTERM or SIGINT from here on, until an event loop handles them; call it before the long imports."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _end)


def _end(_signum: int, _frame: FrameType | None) -> None:
    os._exit(0)
