"""The end of a process: closes its event loop, within a moment, and returns its exit status.

uvloop closes only when every name that it looks up is answered, although nothing waits for the answer any more: while a
resolver is silent that takes longer than the time after SIGTERM. Enters: a process's life, which limits the time of its own
stop (shared/kafka/service.py, ingress/serving.py). Leaves: its exit status.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine

import uvloop

from shared import logs

log = logs.get(__name__)

CLOSE_SECONDS_MAX = 0.4  # milliseconds are enough; a life may have taken 9.5 of the 10 s after SIGTERM


def run_to_the_end(life: Coroutine[object, object, int]) -> int:
    """Run a process's life on uvloop and return its exit status; what the loop still waits for then does not delay it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(life)
        hurry = threading.Timer(CLOSE_SECONDS_MAX, _end, (status,))
        hurry.daemon = True
        hurry.start()
    hurry.cancel()
    return status


def _end(status: int) -> None:
    log.error("process.closed_hard", seconds=CLOSE_SECONDS_MAX)
    os._exit(status)
