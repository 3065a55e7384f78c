"""Who means harm, in a process of its own: hostile requests, and slow clients who hold on to what they get.

`python -m tests.chaos.attack PORT REQUESTS SLOW SECONDS` spreads the requests over these seconds and prints one JSON line:
their statuses (0 = a closed connection), and of the slow clients how many connections they had and for how long the most
patient one was let in.
"""

import asyncio
import itertools
import json
import socket
import sys
import time
from collections import Counter
from contextlib import suppress

import uvloop

from tests.support import corpus
from tests.support.served import statuses

AT_ONCE = 32
SOURCES = [f"127.0.{net}.{host}" for net in (2, 3) for host in range(1, 11)]
HEAD = b"POST /payment/webhook HTTP/1.1\r\nHost: door\r\nStripe-Signature: t=1,v1=" + b"0" * 64 + b"\r\n"
# What a slow client says at once, and then, once a second.
SLOW = (
    (b"", b""),
    (b"P", b""),
    (b"POST /payment/webhook HTTP/1.1\r\n", b"X"),
    (HEAD, b"X-A: b\r\n"),
    (HEAD + b"Content-Length: 200000\r\n\r\n", b"x"),
    (HEAD + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000, b"x"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    (HEAD + b"Content-Length: 200000\r\nExpect: 100-continue\r\n\r\n", b""),
    (b"GET /openapi.json HTTP/1.1\r\nHost: door\r\n\r\n" * 16, b""),
)
UNREAD = len(SLOW) - 1  # asks, and reads no answer
RECEIVE_BUFFER_BYTES = 4_096  # so that what is not read waits at the door, not in our kernel
ANSWER_SECONDS_MAX = 1.0
AGAIN_SECONDS = 1.0
COMING_SECONDS = 10.0  # until all of them are there


async def hostile(port, requests, source):
    """Send each of `requests` when it is due, one by one; count the statuses."""
    seen = Counter()
    for due, sent in requests:
        await asyncio.sleep(max(due - time.monotonic(), 0))
        heard = b""
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            try:
                writer.write(sent)
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    heard = await reader.read(65_536)
            finally:
                writer.transport.abort()
        seen.update(statuses(heard) or [0])
    return seen


class Slow(asyncio.Protocol):
    """A connection of a client who is slow; `lost` is done when it is thrown out."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.lost.set_result(None)


async def connected(source, port):
    """A socket of this address that takes little at a time."""
    made = socket.socket()
    try:
        made.setblocking(False)  # noqa: FBT003 - the name says it
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        made.bind((source, 0))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    except BaseException:
        made.close()
        raise
    return made


async def slow(port, kind, source, deadline, *, after_seconds):
    """Be slow in one way until the deadline, coming back each time; give how long each connection was let in."""
    first, again = SLOW[kind]
    await asyncio.sleep(after_seconds)
    loop, held = asyncio.get_running_loop(), []
    while time.monotonic() < deadline:
        began = time.monotonic()
        with suppress(OSError, TimeoutError):
            transport, client = await loop.create_connection(Slow, sock=await connected(source, port))
            if kind == UNREAD and not transport.is_closing():
                transport.pause_reading()
            if not transport.is_closing():
                transport.write(first)
            while time.monotonic() < deadline and not client.lost.done():
                await asyncio.wait([client.lost], timeout=1)
                if not transport.is_closing():
                    transport.write(again)
            transport.abort()
            # Who does not read does not see either that it was thrown out.
            if kind != UNREAD:
                held.append(time.monotonic() - began)
        await asyncio.sleep(AGAIN_SECONDS)
    return held


async def run(port, count, slow_count, seconds):
    lines = [line for table in (corpus.bodies(), corpus.requests()) for line in table.values()]
    # What is a little too early now is good a little later.
    lines += [corpus.request(signed=header or b" ") for name, header in corpus.headers().items() if name != "t 301 s ahead"]
    sources = itertools.cycle(SOURCES)
    began = time.monotonic()
    deadline = began + seconds
    requests = ((began + n * seconds / count, line) for n, line in zip(range(count), itertools.cycle(lines), strict=False))
    slowly = [
        asyncio.create_task(slow(port, n % len(SLOW), next(sources), deadline, after_seconds=n / slow_count * COMING_SECONDS))
        for n in range(slow_count)
    ]
    seen = sum(await asyncio.gather(*(hostile(port, requests, next(sources)) for _ in range(AT_ONCE))), Counter())
    held = [one for each in await asyncio.gather(*slowly) for one in each]
    return {
        "statuses": {str(status): number for status, number in sorted(seen.items())},
        "slow_connections": len(held),
        "held_seconds_max": max(held, default=0.0),
    }


if __name__ == "__main__":
    port, count, slow_count, seconds = (int(argument) for argument in sys.argv[1:])
    print(json.dumps(uvloop.run(run(port, count, slow_count, seconds))))
