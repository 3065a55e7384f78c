"""Read a body without being held up or filled up by it.

What enters: a request, and how large its body may be. What leaves: the bytes, or the problem. The length that is announced
is judged before anything is read; a chunked body is counted on its way; compressed ones are not unpacked, since a few bytes
of them become gigabytes.
"""

import asyncio

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from ingress import problems
from ingress.problems import Problem

READ_SECONDS_MAX = 10.0  # aiohttp itself would wait for ever for the next byte of a body


def refusal(request: web.Request, *, bytes_max: int) -> Problem | None:
    """Judge a body by its headers alone; None when it may be read."""
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
            # All of it came with the head, as most webhooks do: nothing to wait for.
            whole = request.content.read_nowait()
            return whole if len(whole) <= bytes_max else problems.BODY_TOO_LARGE
        async with asyncio.timeout(READ_SECONDS_MAX):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > bytes_max:
                    return problems.BODY_TOO_LARGE
    except TimeoutError:
        return problems.BODY_TOO_SLOW
    except (ClientPayloadError, HttpProcessingError, ConnectionError, ValueError):
        return problems.BODY_BROKEN
    return bytes(body)
