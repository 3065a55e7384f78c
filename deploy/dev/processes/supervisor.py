"""Keeps the pieces of a box up: one that ends is started again, later each time it ends soon after its start."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.dev.errors import PieceFailed
from deploy.dev.processes.process import Running
from deploy.dev.terminal import Voice

LOOK_EVERY_SECONDS = 0.2
BACK_OFF_SECONDS_MIN = 0.5
BACK_OFF_SECONDS_MAX = 10.0
# Up for that long, a piece counts as healthy, and its next crash as its first.
STEADY_SECONDS = 60.0


def back_off_seconds(crashes: int) -> float:
    """Return how long to wait before the start after the n-th crash in a row (n ≥ 1)."""
    return min(BACK_OFF_SECONDS_MIN * 2.0 ** (crashes - 1), BACK_OFF_SECONDS_MAX)


@dataclass
class Watch:
    """What the supervisor knows about one piece. Moments are of `time.monotonic`."""

    running: Running
    born_at: float
    crashes: int = 0
    start_at: float | None = None
    is_ready: bool = True

    def look(self, now: float, voice: Voice) -> None:
        """Look once: note an end, start again when that is due, tell when the piece is ready again."""
        name = self.running.piece.name
        if self.start_at is not None:
            if now >= self.start_at:
                self.start_at, self.born_at = None, now
                self._spawn(now, voice)
        elif not self.running.is_alive():
            self._crashed(now, voice)
        elif not self.is_ready and self.running.piece.ready(self.running.said()):
            self.is_ready = True
            voice.ready(name, "is ready again", self.born_at)

    def _spawn(self, now: float, voice: Voice) -> None:
        try:
            self.running.spawn()
        except PieceFailed as failure:
            voice.warn(self.running.piece.name, str(failure))
            self._crashed(now, voice)

    def _crashed(self, now: float, voice: Voice) -> None:
        self.crashes = 1 if now - self.born_at > STEADY_SECONDS else self.crashes + 1
        wait_seconds = back_off_seconds(self.crashes)
        self.start_at, self.is_ready = now + wait_seconds, False
        how = self.running.exit_status
        what = f"ended by signal {-how}" if how is not None and how < 0 else f"ended with status {how}"
        voice.warn(self.running.piece.name, f"{what}; starting it again in {wait_seconds:.1f} s  (log: {self.running.log})")


def keep_up(pieces: Iterable[Running], stop: threading.Event, voice: Voice) -> None:
    """Watch the pieces until `stop` is set."""
    watches = [Watch(running, born_at=time.monotonic()) for running in pieces]
    while not stop.wait(LOOK_EVERY_SECONDS):
        for watch in watches:
            watch.look(time.monotonic(), voice)
