"""Carries webhooks: signed anew for every attempt, retried on a schedule, no redirect followed.

Deliveries enter, HTTP requests leave; ``sandbox`` is told after each attempt, so that it can keep what happened.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp

from deploy.dev.stripe import clock, signature
from deploy.dev.stripe.deliveries import Attempt, Delivery, Switches

Json = dict[str, Any]

TIMEOUT_SECONDS = 10.0  # Stripe publishes none for deliveries; hosted Checkout waits this long for an answer
AT_ONCE_MAX = 32
HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    "Accept": "*/*; q=0.5, application/xml",
    "Cache-Control": "no-cache",
}


class Courier:
    """One webhook endpoint and everything on its way there."""

    def __init__(self, *, url: str, secret: str, now: clock.Clock, attempted: Callable[[Delivery], None]) -> None:
        self.switches = Switches()
        self._url = url
        self._secret = secret
        self._now = now
        self._attempted = attempted
        self._answered: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._moving = asyncio.Event()
        self._moving.set()
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._http: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Open the connection pool; call inside the running loop."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    async def stop(self) -> None:
        """Drop what is on its way (it was kept, and is sent after the next start)."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http:
            await self._http.close()

    def send(self, deliveries: Iterable[tuple[Delivery, Json]]) -> None:
        """Begin to carry these deliveries, each with its event."""
        for delivery, event in deliveries:
            self._answered.setdefault(delivery.event_id, asyncio.Event())
            task = asyncio.create_task(self._carry(delivery, body_of(event)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def switch(self, switches: Switches) -> None:
        """Disturb deliveries from now on as told; ``paused`` also holds what is on its way."""
        self.switches = switches
        if switches.paused:
            self._moving.clear()
        else:
            self._moving.set()

    async def answered(self, event_id: str, *, seconds: float) -> None:
        """Return when the endpoint has answered this event in any way, at the latest after so many seconds."""
        waiting = self._answered.get(event_id)
        if waiting is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting.wait(), seconds)

    async def _carry(self, delivery: Delivery, body: bytes) -> None:
        while delivery.state == "pending":
            await asyncio.sleep(max(0.0, delivery.due_at - self._now()))
            await self._moving.wait()
            async with self._at_once:
                attempt = await self._attempt(body)
            delivery.record(attempt, self.switches.retry_schedule_seconds, now=self._now())
            self._attempted(delivery)
            if attempt.status is not None:
                self._answered[delivery.event_id].set()

    async def _attempt(self, body: bytes) -> Attempt:
        assert self._http is not None
        at = clock.wall()  # a signature is always of this moment, whatever the sandbox's clock says
        started = clock.monotonic()
        headers = HEADERS | {"Stripe-Signature": signature.header(body, self._secret, int(at))}
        status, error = None, None
        try:
            async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
                await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as fault:
            error = f"{type(fault).__name__}: {fault}".rstrip(": ")
        return Attempt(at, status, error, round((clock.monotonic() - started) * 1000, 3))


def body_of(event: Json) -> bytes:
    """Return an event's bytes as Stripe sends them: indented by two, UTF-8; the same for every attempt."""
    return json.dumps(event | {"pending_webhooks": 1}, indent=2, ensure_ascii=False).encode()
