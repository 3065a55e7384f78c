"""Waiting for something that another process does: look, pause a little longer each time, give up at the deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

T = TypeVar("T")

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 1.0
PAUSE_GROWS = 1.6


class NotYet(Exception):
    """It has not happened yet; the message says what is the case instead."""


class Hindered(Exception):
    """Somebody could not do what they wanted: what it was, and why not."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why


@dataclass(frozen=True)
class Patience:
    """How long one thing may take."""

    seconds: float

    async def until(self, what: str, look: Callable[[], Awaitable[T]]) -> T:
        """Return what `look` returns, once it no longer raises NotYet or finds nobody there; Hindered at the deadline."""
        last = "nobody looked"
        pause_seconds = PAUSE_SECONDS_MIN
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    try:
                        return await look()
                    except (NotYet, aiohttp.ClientError, TimeoutError) as trouble:
                        last = str(trouble) or type(trouble).__name__
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(pause_seconds * PAUSE_GROWS, PAUSE_SECONDS_MAX)
        except TimeoutError:
            raise Hindered(what, f"not within {self.seconds:g} s: {last}") from None
