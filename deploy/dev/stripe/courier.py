"""Sends webhooks: signed anew for every attempt, retried on a schedule, no redirect followed.

Deliveries enter, HTTP requests leave; ``outbox`` is told after each attempt, so that it can keep what happened.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from deploy.dev.stripe import clock, forgeries
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
LOST = "lost on the way: drop_first"


@dataclass(frozen=True)
class Door:
    """Where an endpoint listens, and the secrets that sign for it now."""

    url: str
    secrets: list[str]


class Courier:
    """Everything that is on its way to any endpoint.

    ``door`` finds an endpoint by its id, None where nobody may knock any more.
    """

    def __init__(
        self, *, door: Callable[[str], Door | None], now: clock.Clock, attempted: Callable[[Delivery, Attempt | None], None]
    ) -> None:
        self.switches = Switches()
        self._door = door
        self._now = now
        self._attempted = attempted
        self._answered: dict[str, asyncio.Event] = {}
        self._tried: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
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
            self._tried[delivery.id] = asyncio.Event()
            said = event | {"pending_webhooks": delivery.pending_webhooks}
            task = asyncio.create_task(self._carry(delivery, forgeries.body(said, delivery.forgery)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def switch(self, switches: Switches) -> None:
        """Disturb deliveries from now on as told; what is paused also holds what is on its way."""
        self.switches = switches
        self.look_again()

    def look_again(self) -> None:
        """Wake whoever waits for a moment or a switch: the clock or the switches changed."""
        self._news.set()
        self._news = asyncio.Event()

    async def answered(self, event_id: str, *, seconds: float) -> None:
        """Return when an endpoint has answered this event in any way, at the latest after so many seconds."""
        waiting = self._answered.get(event_id)
        if waiting is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting.wait(), seconds)

    async def _carry(self, delivery: Delivery, body: bytes) -> None:
        try:
            if delivery.after in self._tried:
                await self._tried[delivery.after].wait()
            while delivery.state == "pending":
                await self._due(delivery)
                async with self._at_once:
                    attempt = await self._attempt(delivery, body)
                if attempt is None:
                    delivery.state = "given_up"
                else:
                    delivery.record(attempt, self.switches.steps_seconds, now=self._now())
                self._attempted(delivery, attempt)
                self._tried[delivery.id].set()
                if attempt is not None and attempt.status is not None:
                    self._answered[delivery.event_id].set()
        finally:
            self._tried.pop(delivery.id).set()

    async def _due(self, delivery: Delivery) -> None:
        """Wait for the delivery's moment, and only then for the switches to let it go: what was held leaves as it fell due."""
        while (left := delivery.due_at - self._now()) > 0 or self.switches.holds(delivery.endpoint_id):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left if left > 0 else None)

    async def _attempt(self, delivery: Delivery, body: bytes) -> Attempt | None:
        """Knock once; None where the endpoint is gone or disabled."""
        assert self._http is not None
        door = self._door(delivery.endpoint_id)
        if door is None:
            return None
        at = clock.wall()  # a signature is always of this moment, whatever the sandbox's clock says
        if len(delivery.attempts) < self.switches.drop_first:
            return Attempt(at, None, LOST, 0.0)
        started = clock.monotonic()
        headers = HEADERS | {"Stripe-Signature": forgeries.header(body, door.secrets, int(at), delivery.forgery)}
        status, error = None, None
        try:
            async with self._http.post(door.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
                await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as fault:
            error = f"{type(fault).__name__}: {fault}".rstrip(": ")
        return Attempt(at, status, error, round((clock.monotonic() - started) * 1000, 3))
