"""Reads a request's body within limits of time and memory.

Enters: a request, and how large its body may be. Leaves: the bytes, or the problem. The announced length is checked before
anything is read; a chunked body is counted as it arrives; compressed bodies are refused, since a few bytes can unpack to
gigabytes. Bodies that do not arrive together with their head share one memory budget: when it is exceeded, the body that has
been arriving for longest is timed out, so that thousands of slow bodies keep no quick one out.
"""

import asyncio
from collections import OrderedDict

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from ingress import problems
from ingress.problems import Problem

READ_SECONDS_MAX = 10.0  # aiohttp itself would wait for ever for the next byte of a body
ARRIVING_BYTES_MAX = 4_194_304  # about two hundred slow bodies; real ones arrive in milliseconds
REQUEST_BYTES = 16_384  # memory that a request takes beside its body


class ArrivingBodies:
    """Bodies that are arriving, oldest first, each under the time limit within which it is read."""

    def __init__(self) -> None:
        self.bytes = 0
        self._held: OrderedDict[asyncio.Timeout, int] = OrderedDict()

    def hold(self, limit: asyncio.Timeout, body_bytes: int) -> None:
        """Record how much one body holds now; when all together exceed the budget, time out the oldest."""
        self._count(limit, REQUEST_BYTES + body_bytes)
        while self.bytes > ARRIVING_BYTES_MAX and len(self._held) > 1:
            oldest = next(iter(self._held))
            self.release(oldest)
            if not oldest.expired():  # an expired one ends by itself, and cannot be rescheduled
                oldest.reschedule(asyncio.get_running_loop().time())

    def release(self, limit: asyncio.Timeout) -> None:
        """Stop counting a body; may be called twice."""
        self.bytes -= self._held.pop(limit, 0)

    def _count(self, limit: asyncio.Timeout, held: int) -> None:
        self.bytes += held - self._held.get(limit, 0)
        self._held[limit] = held


ARRIVING = ArrivingBodies()  # one for the process, whose memory it limits


def refusal(request: web.Request, *, bytes_max: int) -> Problem | None:
    """Return why a body is refused by its headers alone; None when it may be read."""
    if request.content_length is not None and request.content_length > bytes_max:
        return problems.BODY_TOO_LARGE
    if "Content-Encoding" in request.headers:
        return problems.ENCODING_REFUSED
    return None


async def read(request: web.Request, *, bytes_max: int) -> bytes | Problem:
    """Return the whole body of a request whose headers were not refused."""
    body = bytearray()
    try:
        if request.content.is_eof():
            # The whole body came with the head, as with most webhooks: nothing to wait for.
            whole = request.content.read_nowait()
            return whole if len(whole) <= bytes_max else problems.BODY_TOO_LARGE
        async with asyncio.timeout(READ_SECONDS_MAX) as limit:
            try:
                ARRIVING.hold(limit, 0)
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > bytes_max:
                        return problems.BODY_TOO_LARGE
                    ARRIVING.hold(limit, len(body))
            finally:
                ARRIVING.release(limit)
    except TimeoutError:
        return problems.BODY_TOO_SLOW
    except (ClientPayloadError, HttpProcessingError, ConnectionError, ValueError):
        return problems.BODY_BROKEN
    return bytes(body)
