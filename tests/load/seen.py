"""What a load of webhooks saw: started in a process of its own, and read when it is over."""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.journey.pipeline import ROOT


@dataclass
class Seen:
    """What the honest client saw: one entry a webhook, in the order in which they were due, seconds since `began`."""

    began: float
    ids: list = field(default_factory=list)
    due: list = field(default_factory=list)
    latency: list = field(default_factory=list)
    status: list = field(default_factory=list)
    retry_after: list = field(default_factory=list)
    late: list = field(default_factory=list)

    @classmethod
    def read(cls, report, *, began):
        rows = sorted((json.loads(line) for line in report.read_text().splitlines()), key=lambda row: row[1])
        return cls(began, *(list(column) for column in zip(*rows, strict=True)))

    @property
    def statuses(self):
        return dict(sorted(Counter(self.status).items()))

    @property
    def taken(self):
        return {event_id for event_id, status in zip(self.ids, self.status, strict=True) if status == 200}

    def latency_ms(self, share):
        return sorted(self.latency)[min(int(len(self.latency) * share), len(self.latency) - 1)] * 1000

    @property
    def answer_seconds_max(self):
        """The longest time from a request to its answer."""
        return max(took - late for took, late in zip(self.latency, self.late, strict=True))

    def gap_seconds_max(self, since=0.0, until=float("inf")):
        """The longest time without an answer 200 between these moments."""
        answered = (d + took for d, took, s in zip(self.due, self.latency, self.status, strict=True) if s == 200)
        moments = sorted(moment for moment in answered if since <= moment <= until)
        return max((after - before for before, after in itertools.pairwise(moments)), default=float("inf"))

    def goodput(self, since, until):
        """The share of what was due in these seconds that was answered 200."""
        chosen = [status for due, status in zip(self.due, self.status, strict=True) if since <= due < until]
        return sum(status == 200 for status in chosen) / max(len(chosen), 1)


class Load:
    """Honest webhooks at a fixed rate, by a generator in a process of its own."""

    def __init__(self, folder, port, rate, seconds, *, webhooks=None, fresh=False):
        self._report = folder / f"load-{time.monotonic_ns()}.jsonl"
        more = [*(["--webhooks", str(webhooks)] if webhooks else []), *(["--fresh"] if fresh else [])]
        self._arguments = ["-m", "tests.load.open", str(port), str(rate), str(seconds), str(self._report), *more]

    async def start(self):
        self._running = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        return self

    async def seen(self):
        said, _ = await self._running.communicate()
        assert self._running.returncode == 0
        return Seen.read(self._report, began=float(said))
