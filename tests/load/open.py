"""An open-model load generator in a process of its own: webhooks at a fixed rate, whether or not earlier ones were answered.

`python -m tests.load.open PORT RATE SECONDS REPORT [--webhooks FILE] [--fresh]` writes one JSON line a webhook: its event id,
the second in which it was due since the start, how long after that moment its answer was complete, the status (0 = none came),
Retry-After, and how long after it was due it was sent; and prints when it began (seconds since 1970). Latency counts from the
moment when it was due, so that no stall hides behind a generator that waited for it (coordinated omission); what a busy machine
costs the generator itself is told apart by the last. `--webhooks` sends what lies in FILE instead of events of its own;
`--fresh` takes a new connection for every webhook.
"""

import argparse
import asyncio
import itertools
import json
import time
from pathlib import Path

import uvloop

from tests.load import webhooks

# Like Stripe, from several addresses.
SOURCES = [f"127.0.0.{number}" for number in range(2, 18)]
PATIENCE_SECONDS = 12.0


class Connection(asyncio.Protocol):
    """One keep-alive connection; `idle` are those that may be used again."""

    def __init__(self, idle):
        self._idle, self._heard, self._answer = idle, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, request):
        """Send a request; give a future of its answer, (0, None) when the connection ends without one."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data):
        self._heard += data
        head, separator, body = self._heard.partition(b"\r\n\r\n")
        low = head.lower()
        if not separator or len(body) < int(low.partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._heard = b""
        after = low.partition(b"retry-after:")[2].partition(b"\r\n")[0].strip().decode() or None
        self._tell((int(head[9:12]), after))
        if b"connection: close" in low:
            self.transport.close()
        else:
            self._idle.append(self)

    def connection_lost(self, error):
        if self in self._idle:
            self._idle.remove(self)
        self._tell((0, None))

    def _tell(self, answer):
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


async def run(port, rate, seconds, report, coming, *, fresh):
    loop, idle, sources = asyncio.get_running_loop(), [], itertools.cycle(SOURCES)

    async def deliver(due, event_id, body):
        request = webhooks.request(body)
        status, after, late = 0, None, time.monotonic() - began - due
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if idle and not fresh:
                    connection = idle.pop()
                else:
                    _, connection = await loop.create_connection(
                        lambda: Connection(idle), "127.0.0.1", port, local_addr=(next(sources), 0)
                    )
                late = time.monotonic() - began - due
                status, after = await connection.ask(request)
                if fresh:
                    connection.transport.close()
        except (OSError, TimeoutError):
            pass
        report.write(json.dumps([event_id, due, time.monotonic() - began - due, status, after, late]) + "\n")

    under_way = set()
    print(time.time(), flush=True)
    began = time.monotonic()
    for number, (event_id, body) in zip(range(int(rate * seconds)), coming, strict=False):
        due = number / rate
        if (wait := due - (time.monotonic() - began)) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(deliver(due, event_id, body))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("report", type=Path)
    parser.add_argument("--webhooks", type=Path)
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    coming = webhooks.laid(given.webhooks) if given.webhooks else webhooks.fresh()
    with given.report.open("w") as report:
        uvloop.run(run(given.port, given.rate, given.seconds, report, coming, fresh=given.fresh))
