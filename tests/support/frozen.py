"""A process that stands still, as one on a machine that is paused, and goes on later."""

import os
import signal
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.waiting import until_blocking


@contextmanager
def frozen(pid):
    """Inside the block each of its threads stands: those on another core run on for a moment after the signal."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until_blocking(lambda: _stands(pid), f"process {pid} stands still", deadline_seconds=10, every_seconds=0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _stands(pid):
    threads = Path(f"/proc/{pid}/task")
    if not threads.exists():  # macOS
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads.iterdir())
