"""A closed-loop load generator in a process of its own: so many connections, each sending the next webhook on its answer.

`python -m tests.load.closed PORTS CONNECTIONS FILE [--seconds S]` sends what lies in FILE once, or with `--seconds` again and
again for as long, and prints one JSON line: when it began (seconds since 1970), answered, statuses, seconds, latencies in ms.
PORTS is one port, or several with commas between them, which the connections share evenly. A server that stalls is not asked
meanwhile: latencies are for the open-model generator to tell.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from pathlib import Path

import uvloop

from tests.load import webhooks


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


async def run(ports, connections, requests, seconds):
    def stream():
        deadline = time.perf_counter() + seconds
        for request in itertools.cycle(requests):
            if time.perf_counter() >= deadline:
                return
            yield request

    answered, source, loop = [], iter(requests) if seconds is None else stream(), asyncio.get_running_loop()
    began, started = time.time(), time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: Connection(source, answered), "127.0.0.1", port))[1]
        for _, port in zip(range(connections), itertools.cycle(ports), strict=False)
    ]
    await asyncio.gather(*(connection.stopped for connection in opened))
    return {"began": began} | summary(answered, time.perf_counter() - started)


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports")
    parser.add_argument("connections", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    # Signed before the first is sent: what the generator computes, it takes from the cores of whoever is measured.
    prepared = [webhooks.request(body) for _, body in webhooks.laid(given.file)]
    ports = [int(port) for port in given.ports.split(",")]
    print(json.dumps(uvloop.run(run(ports, given.connections, prepared, given.seconds))))
