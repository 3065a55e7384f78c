"""Standard error, for a process that must not block: the reader may be slow, or read no more.

Writing to a full pipe blocks, and with it the event loop: no request would be served and no heartbeat sent. So only as much is
written as there is room for. A line that cannot be written (the disk is full, nobody reads the pipe any more) is lost and
counted, and its call returns: a batch that is done must not be rewound, nor a process fail, because of a log line. Enters:
lines of logs.py. Leaves: bytes on standard error. Next: the program that collects the logs.
"""

import asyncio
import os
import select
import stat
import threading
from contextlib import suppress

from shared import clock, metrics

STANDARD_ERROR = 2
UNWRITTEN_BYTES_MAX = 1_048_576  # kept here while the pipe of a slow reader is full; a pipe itself holds 64 kB
WRITE_AGAIN_SECONDS = 0.1


class Outlet:
    """Standard error of this process; a file counts as always having room."""

    def __init__(self) -> None:
        self._unwritten = bytearray()
        # A library may log in a thread of its own, and a finalizer may log in the middle of a line of ours.
        self._lock = threading.RLock()
        self._pouring = False
        self._room = select.poll()
        self._room.register(STANDARD_ERROR, select.POLLOUT)
        self._comes_again = False

    def write(self, lines: bytes) -> None:
        """Write lines, or keep them until there is room, or count them as lost.

        Not by `sys.stderr`: it keeps what it could not write, and fails with it again and again, at last in the exit status.
        """
        with self._lock:
            if len(self._unwritten) + len(lines) > UNWRITTEN_BYTES_MAX:
                metrics.log_lines_lost.inc(lines.count(b"\n") + 1)
            else:
                self._unwritten += lines + b"\n"
            self._pour()

    def pour(self, *, wait_seconds: float = 0.0) -> None:
        """Write the kept lines, as far as there is room now or within so many seconds."""
        with self._lock:
            self._comes_again = False
            self._pour(wait_seconds)

    def _pour(self, wait_seconds: float = 0.0) -> None:
        if self._pouring:
            return
        self._pouring = True
        ends_at = clock.monotonic() + wait_seconds
        try:
            while self._unwritten and self._has_room(ends_at - clock.monotonic() if wait_seconds else 0.0):
                del self._unwritten[: os.write(STANDARD_ERROR, self._unwritten[: self._at_once()])]
        except BlockingIOError:
            pass  # another process that shares it has made it non-blocking
        except OSError:
            metrics.log_lines_lost.inc(self._unwritten.count(b"\n"))
            self._unwritten.clear()
        finally:
            self._pouring = False
        if self._unwritten and not self._comes_again:
            with suppress(RuntimeError):  # no event loop runs: the next line or the exit writes the rest
                asyncio.get_running_loop().call_later(WRITE_AGAIN_SECONDS, self.pour)
                self._comes_again = True

    def _has_room(self, wait_seconds: float) -> bool:
        return bool(self._room.poll(max(wait_seconds, 0.0) * 1000))

    def _at_once(self) -> int:
        """Return how many bytes can be written without blocking: a pipe with any room takes PIPE_BUF bytes (pipe(7))."""
        waiting = len(self._unwritten)
        return waiting if waiting <= select.PIPE_BUF or _is_file() else select.PIPE_BUF


OUTLET = Outlet()


def _is_file() -> bool:
    return stat.S_ISREG(os.fstat(STANDARD_ERROR).st_mode)
