"""The end of a process: by a signal or by a fault, within ten seconds, with its exit status.

Enters: a process's life (shared/kafka/service.py, ingress/serving.py), which watches `End` and finishes what is under way.
Leaves: exit status 0 after SIGTERM or SIGINT, 1 when something broke that a restart must mend.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import uvloop

from shared import errors, logs

log = logs.get(__name__)

STOP_SECONDS_MAX = 9.5  # SIGTERM ends the process within 10 s, whatever a client library still waits for
LIVENESS_EVERY_SECONDS = 5.0
CLOSE_SECONDS_MAX = 0.4  # milliseconds are enough; a life may have taken 9.5 of the 10 s after SIGTERM


class NotAlive(errors.PipelineError):
    """The process runs and makes no progress: only a restart helps."""


class End:
    """How a process comes to its end: `stopping` is set by a signal, `fatal` holds the fault that a restart must mend."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.fatal: asyncio.Future[BaseException] = self._loop.create_future()
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self.begin)

    def begin(self) -> None:
        """Let everything stop, and end the process after STOP_SECONDS_MAX whatever still waits; a second call does nothing."""
        if not self.stopping.is_set():
            self.stopping.set()
            # From here on nothing may delay the end: a commit waits for a whole outage, a join for its request's timeout.
            self._loop.call_later(STOP_SECONDS_MAX, self._give_up)

    def fail(self, fault: BaseException) -> None:
        """Let the process end because of a fault that a restart must mend; the first one is reported."""
        if not self.fatal.done():
            self.fatal.set_result(fault)

    async def until_over(self, faults: Callable[[], Awaitable[Sequence[str]]]) -> None:
        """Return once a signal or a fault has come, or once `faults`, asked again and again, says why only a restart helps."""
        signalled = asyncio.create_task(self.stopping.wait())
        try:
            while not (signalled.done() or self.fatal.done()):
                reasons = await faults()
                if reasons:
                    self.fail(NotAlive("; ".join(reasons)))
                await asyncio.wait((signalled, self.fatal), timeout=LIVENESS_EVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signalled.cancel()
            self.begin()

    def status(self) -> int:
        """Log why the process ends, and return its exit status."""
        if not self.fatal.done():
            log.info("process.stopped")
            return 0
        fault = self.fatal.result()
        log.error("process.gave_up", error=type(fault).__name__, reason=str(fault))
        return 1

    def _give_up(self) -> None:
        error = type(self.fatal.result()).__name__ if self.fatal.done() else None
        log.error("process.stopped_hard", seconds=STOP_SECONDS_MAX, error=error)
        os._exit(1 if self.fatal.done() else 0)


def run_to_the_end(life: Coroutine[object, object, int]) -> int:
    """Run a process's life on uvloop and return its exit status; what the loop still waits for then does not delay it.

    uvloop closes only when every name that it looks up is answered, although nothing waits for the answer any more: while a
    resolver is silent that takes longer than the time after SIGTERM.
    """
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
