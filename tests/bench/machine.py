"""What the machine itself did during a round: how fast it was, how long it stood still, how much of it others were given.

A virtual machine can be paused for half a minute while its clock goes on. Every process then seems to have stood still, and a
figure of ours would tell of somebody else. Enters: a round under `watched`. Leaves: which rounds count. Next: __main__.py.
"""

import hashlib
import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SLOWER_AT_MOST = 1.25
STILL_SECONDS_MAX = 2.0  # two full cores and a busy interpreter make the watcher late by some tenths
PIECE_OF_WORK = b"x" * 50_000_000
LOOKS_EVERY_SECONDS = 0.1


@dataclass
class Seen:
    """Of one round: seconds for the piece of work at its start, its longest standstill, the share of time stolen from us."""

    work_seconds: float
    still_seconds: float = 0.0
    stolen_share: float = 0.0

    def __str__(self) -> str:
        return f"{self.work_seconds:.3f} s, stood still {self.still_seconds:.1f} s, {self.stolen_share:.0%} stolen"

    def is_noisy(self, usual_work_seconds: float) -> bool:
        """Whether what was measured meanwhile tells more of the machine than of us."""
        return self.work_seconds > usual_work_seconds * SLOWER_AT_MOST or self.still_seconds > STILL_SECONDS_MAX


def quiet(rounds):
    """Return the figures of those (what was seen of the machine, figures) that count; end the bench if none does."""
    usual = statistics.median(seen.work_seconds for seen, _ in rounds)
    kept = [figures for seen, figures in rounds if not seen.is_noisy(usual)]
    if not kept:
        raise SystemExit(f"no round counts, the machine was too noisy: {told(rounds)}")
    return kept


def told(rounds):
    """What was seen of the machine, round by round."""
    return " / ".join(str(seen) for seen, _ in rounds)


@contextmanager
def watched():
    """Give what is seen of the machine; it is complete at the end."""
    seen = Seen(_work_seconds())
    ended = threading.Event()
    before = psutil.cpu_times()
    watcher = threading.Thread(target=_watch, args=(seen, ended), daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
        after = psutil.cpu_times()
        seen.stolen_share = _stolen(after) and (_stolen(after) - _stolen(before)) / (sum(after) - sum(before))


def _work_seconds():
    began = time.perf_counter()
    hashlib.sha256(PIECE_OF_WORK).digest()
    return time.perf_counter() - began


def _watch(seen, ended):
    # By the wall clock: whether the monotonic one goes on during a pause depends on who paused the machine.
    last, is_over = time.time(), False
    while not is_over:
        is_over = ended.wait(LOOKS_EVERY_SECONDS)
        now = time.time()
        seen.still_seconds = max(seen.still_seconds, now - last - LOOKS_EVERY_SECONDS)  # also of what stood still at the end
        last = now


def _stolen(times):
    return getattr(times, "steal", 0.0)  # Linux alone tells it
