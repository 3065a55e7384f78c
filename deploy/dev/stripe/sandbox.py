"""The one place where a changed world is kept, told and timed.

``gate`` and ``page`` change the world and then ``commit``: one transaction keeps objects, events, owed webhooks and the
stored answer together; only then do webhooks leave. Expiry and settlement are timers over what is kept, so a restart
finds them again.
"""

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from deploy.dev.stripe import checkout, clock, deliveries
from deploy.dev.stripe.courier import Courier
from deploy.dev.stripe.deliveries import Delivery, Switches
from deploy.dev.stripe.faults import Faults
from deploy.dev.stripe.idempotency import KEEP_SECONDS, Answer, Answers
from deploy.dev.stripe.ids import Mint
from deploy.dev.stripe.objects import endpoint, event
from deploy.dev.stripe.store import Row, Store
from deploy.dev.stripe.world import World

Json = dict[str, Any]

SETTLE_SECONDS = 1.5  # real balance transactions follow their charge by one to two seconds


@dataclass(frozen=True)
class Settings:
    """Where the sandbox listens, whom it tells, and where it keeps its state."""

    webhook_url: str
    webhook_secret: str
    public_url: str
    state_folder: Path
    seed: int | None = None
    now: clock.Clock = clock.wall
    redirect_wait_seconds_max: float = 10.0  # docs.stripe.com/checkout/fulfillment


class Sandbox:
    """A running Stripe: build it inside an event loop, ``start`` it, and ``stop`` it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.faults = Faults()
        self.answers = Answers()
        self.deliveries: dict[str, Delivery] = {}
        self.world = World(secrets.randbits(32) if settings.seed is None else settings.seed)
        self.courier = Courier(
            url=settings.webhook_url, secret=settings.webhook_secret, now=settings.now, attempted=self._keep_attempt
        )
        self._store = Store(settings.state_folder)
        self._chance = random.Random(self.world.mint.seed)  # noqa: S311 - disorder on purpose, repeatable by seed
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def now(self) -> int:
        """This second, by the sandbox's clock."""
        return int(self.settings.now())

    def start(self) -> None:
        """Take up what was kept: objects, answers, timers, and webhooks that are still owed."""
        self._load()
        self._open_endpoint()
        self.courier.start()
        for kind in ("session", "charge"):
            for thing in self.world.tables[kind].values():
                self._arm(kind, thing)
        self._carry([delivery for delivery in self.deliveries.values() if delivery.state == "pending"])

    async def stop(self) -> None:
        """Stop timers and deliveries and close the file."""
        for timer in self._timers.values():
            timer.cancel()
        await self.courier.stop()
        self._store.close()

    def commit(self, answer: tuple[str, Answer] | None = None) -> None:
        """Keep everything that changed, with the stored answer (key, answer) to the call that changed it, and tell."""
        changes = self.world.take()
        told = [news for news in changes.events if endpoint.is_told(self._endpoint, news)]
        for news in changes.events:
            news["pending_webhooks"] = int(news in told)
        owed = deliveries.plan(told, self.courier.switches, self._chance, now=self.settings.now())
        rows: list[Row] = [(kind, thing["id"], thing) for kind, thing in changes.objects]
        rows += [("delivery", delivery.id, delivery) for delivery in owed]
        rows += [("answer", *answer)] if answer else []
        rows += [("mint", "mint", self.world.mint)]
        self._store.save(rows)
        for kind, thing in changes.objects:
            self._arm(kind, thing)
        self._carry(owed)

    def redeliver(self, event_id: str) -> Delivery:
        """Send an event once more, whatever became of it before."""
        self.world.get("event", event_id)
        copy = sum(delivery.event_id == event_id for delivery in self.deliveries.values())
        now = self.settings.now()
        delivery = Delivery(f"{event_id}.{copy}", event_id, "redelivery", born_at=now, due_at=now)
        self._store.save([("delivery", delivery.id, delivery)])
        self._carry([delivery])
        return delivery

    def clear(self) -> None:
        """Put every switch to rest. The world, and what is on its way, stay."""
        self.faults.armed.clear()
        self.courier.switch(Switches())

    @property
    def _endpoint(self) -> Json:
        return self.world.get("endpoint", self.world.mint.endpoint_id)

    def _open_endpoint(self) -> None:
        """Have the one endpoint, at the address that this process was started with; its switches are what they were."""
        kept = self.world.tables["endpoint"].get(self.world.mint.endpoint_id)
        fresh = endpoint.new(self.world.mint.endpoint_id, self.settings.webhook_url, created=self.now)
        self.world.put("endpoint", (kept or fresh) | {"url": self.settings.webhook_url})
        self.commit()

    def _carry(self, owed: list[Delivery]) -> None:
        self.deliveries |= {delivery.id: delivery for delivery in owed}
        self.courier.send((delivery, self.world.tables["event"][delivery.event_id]) for delivery in owed)

    def _keep_attempt(self, delivery: Delivery) -> None:
        rows: list[Row] = [("delivery", delivery.id, delivery)]
        if delivery.state == "delivered":
            told = self.world.tables["event"][delivery.event_id]
            told["pending_webhooks"] = 0
            rows.append(("event", told["id"], told))
        self._store.save(rows)

    def _arm(self, kind: str, thing: Json) -> None:
        if kind == "session" and thing["status"] == "open":
            self._at(thing["id"], thing["expires_at"], lambda: self._expire(thing))
        if kind == "charge" and thing["paid"] and not thing["balance_transaction"]:
            self._at(thing["id"], thing["created"] + SETTLE_SECONDS, lambda: self._settle(thing))

    def _at(self, name: str, moment: float, act: Callable[[], None]) -> None:
        if name in self._timers:
            return
        delay = max(0.0, moment - self.settings.now())
        self._timers[name] = asyncio.get_running_loop().call_later(delay, act)

    def _expire(self, session: Json) -> None:
        del self._timers[session["id"]]
        if session["status"] != "open":
            return
        if self.settings.now() < session["expires_at"]:  # the wall clock was set back meanwhile
            self._arm("session", session)
            return
        checkout.expire(self.world, session, now=self.now, cause=event.cause())
        self.commit()

    def _settle(self, charge: Json) -> None:
        del self._timers[charge["id"]]
        checkout.settle(self.world, charge, now=self.now)
        self.commit()

    def _load(self) -> None:
        for kind, key, body in self._store.load():
            if kind == "mint":
                self.world.mint = msgspec.json.decode(body, type=Mint)
            elif kind == "delivery":
                self.deliveries[key] = msgspec.json.decode(body, type=Delivery)
            elif kind == "answer":
                self.answers.stored[key] = msgspec.json.decode(body, type=Answer)
            else:
                self.world.restore(kind, msgspec.json.decode(body))
        old = [key for key, kept in self.answers.stored.items() if kept.at + KEEP_SECONDS <= self.settings.now()]
        self._store.forget("answer", old)
        for key in old:
            del self.answers.stored[key]
