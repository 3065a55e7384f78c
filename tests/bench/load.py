"""A closed-loop load generator in a process of its own: so many connections, each sending the next webhook on its answer.

`python -m tests.bench.load PORT CONNECTIONS SECONDS` prints one JSON line: answered, statuses, seconds, latencies in ms. Its
counts are checked against the server's own in tests/unit/test_bench.py.
"""

import asyncio
import json
import statistics
import sys
import time

import uvloop

from tests.bench.payloads import body_of
from tests.builders import Sale
from tests.journey.pipeline import signature

BODIES = 2_000


class Connection(asyncio.Protocol):
    """One keep-alive connection; reads an answer's status and length, nothing more."""

    def __init__(self, requests, answered):
        self._requests, self._answered = requests, answered
        self._buffer = b""
        self._sent_at = 0.0
        self.stopped = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self._transport = transport
        self._next()

    def data_received(self, data):
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._answered.append((int(head[9:12]), time.perf_counter() - self._sent_at))
        self._next()

    def connection_lost(self, error):
        if not self.stopped.done():
            self.stopped.set_result(error)

    def _next(self):
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def requests(count, port):
    """Signed webhooks as bytes on the wire; signatures live 300 s, so they are made just before they are sent."""
    made = []
    for _ in range(count):
        body = body_of(Sale().succeeded())
        head = (
            f"POST /payment/webhook HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Stripe-Signature: {signature(body)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def run(port, connections, seconds):
    prepared = requests(BODIES, port)
    deadline = time.perf_counter() + seconds

    def stream():
        position = 0
        while time.perf_counter() < deadline:
            yield prepared[position % BODIES]
            position += 1

    answered, source, loop = [], stream(), asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: Connection(source, answered), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    await asyncio.gather(*(connection.stopped for connection in opened))
    return summary(answered, time.perf_counter() - started)


def summary(answered, seconds):
    latencies = sorted(latency * 1000 for _, latency in answered)
    statuses = [status for status, _ in answered]
    return {
        "answered": len(answered),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "seconds": seconds,
        "per_second": len(answered) / seconds,
        "p50_ms": statistics.median(latencies),
        "p99_ms": latencies[int(len(latencies) * 0.99)],
    }


if __name__ == "__main__":
    port, connections, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(run(int(port), int(connections), float(seconds)))))
