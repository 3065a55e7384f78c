"""Ends a process that gets SIGTERM or SIGINT before it has started: at once, with status 0.

While it imports and reads its settings, for a second, or ten on a busy machine, nothing is under way. By default it would end
as if it were killed; as the first process of a container it would not even notice a SIGTERM, since the kernel sends that
process no signal without a handler (pid_namespaces(7)). Enters: nothing. Leaves: handlers, until the event loop has its own.
Next: garbage.py, under which the imports go on.
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
