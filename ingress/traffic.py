"""What is under way at the door, so that the process leaves only after it.

What enters: every request. What leaves: the moment when none is left. aiohttp's own shutdown drops the rest of a body that has
not arrived yet, so that whoever was speaking would go unheard; here they finish, and nobody begins anew on their connection.
"""

import asyncio
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler


class Traffic:
    """Counts requests from their head to their answer."""

    def __init__(self) -> None:
        self._under_way = 0
        self._none_left: asyncio.Event | None = None

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count one request; while the process is leaving, its connection ends with the answer."""
        self._under_way += 1
        try:
            response = await handler(request)
        finally:
            self._under_way -= 1
            if self._none_left is not None and not self._under_way:
                self._none_left.set()
        if self._none_left is not None:
            response.force_close()
        return response

    async def drained(self, *, seconds_max: float) -> None:
        """Wait until nothing is under way, or the time is over."""
        self._none_left = asyncio.Event()
        if self._under_way:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), seconds_max)


TRAFFIC = web.AppKey("traffic", Traffic)
