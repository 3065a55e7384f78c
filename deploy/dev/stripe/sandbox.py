"""The one place where a changed world is kept, told and timed.

``gate`` and ``page`` change the world and then ``commit``: one transaction keeps objects, events, owed webhooks and the
stored answer together; only then do webhooks leave. What is due by itself is read off the objects (``timetable``), so a
restart finds it again.
"""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from deploy.dev.stripe import clock
from deploy.dev.stripe.deliveries import Delivery, Switches
from deploy.dev.stripe.faults import Armed, Fault
from deploy.dev.stripe.idempotency import KEEP_SECONDS, Answer, Answers
from deploy.dev.stripe.ids import Mint
from deploy.dev.stripe.objects import endpoint, event
from deploy.dev.stripe.outbox import Outbox
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.store import Row, Store
from deploy.dev.stripe.timetable import AFTERMATH_SECONDS, Timetable
from deploy.dev.stripe.world import World

Json = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Where the sandbox listens, whom it tells, and where it keeps its state (None: nowhere).

    ``webhook_secret`` may be several with commas, as during a roll: each signs.
    """

    webhook_url: str
    webhook_secret: str
    public_url: str
    state_folder: Path | None
    seed: int | None = None
    merchant: str = "CultureBridge"  # whose name the pages bear
    now: clock.Clock = clock.wall
    redirect_wait_seconds_max: float = 10.0  # docs.stripe.com/checkout/fulfillment


class Sandbox:
    """A running Stripe: build it inside an event loop, ``start`` it, and ``stop`` it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = clock.Moving(settings.now)
        self.faults = Armed[Fault]()
        self.answers = Answers()
        self.world = World(secrets.randbits(32) if settings.seed is None else settings.seed)
        self._store = Store(settings.state_folder)
        self.outbox = Outbox(self.world, self._store, self.clock.now)
        self._timetable = Timetable(self.world, settings.public_url)
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def now(self) -> int:
        """This second, by the sandbox's clock."""
        return int(self.clock.now())

    @property
    def at(self) -> At:
        """This moment, for what no call of the API causes: a customer's doing, or time's."""
        return At(self.now, self.settings.public_url, event.cause())

    def start(self) -> None:
        """Take up what was kept: objects, answers, what is due, and webhooks that are still owed."""
        self._load()
        self._open_endpoint()
        for kind, things in self.world.tables.items():
            for thing in things.values():
                self._timetable.note(kind, thing)
        self._set_alarm()
        self.outbox.resume()

    async def stop(self) -> None:
        """Stop waiting and delivering, and close the file."""
        if self._alarm:
            self._alarm.cancel()
        await self.outbox.courier.stop()
        self._store.close()

    def commit(self, answer: tuple[str, Answer] | None = None) -> None:
        """Keep everything that changed, with the stored answer (key, answer) to the call that changed it, and tell."""
        changes = self.world.take()
        owed = self.outbox.owe(changes.events)
        rows: list[Row] = [(kind, thing["id"], thing) for kind, thing in changes.objects]
        rows += [("delivery", delivery.id, delivery) for delivery in owed]
        rows += [("answer", *answer)] if answer else []
        rows += [("mint", "mint", self.world.mint)]
        self._store.save(rows)
        for kind, object_id in changes.removed:
            self._store.forget(kind, [object_id])
        for kind, thing in changes.objects:
            self._timetable.note(kind, thing)
        self._set_alarm()
        self.outbox.carry(owed)

    def advance(self, seconds: float) -> None:
        """Set the sandbox's clock forward; whatever falls due on the way happens in its order, at its moment."""
        target = self.clock.now() + seconds
        while (moment := self._timetable.next_moment) is not None and moment <= target:
            self.clock.forward_to(moment)
            self._act()
        self.clock.forward_to(target)
        self._set_alarm()
        self.outbox.courier.look_again()

    def roll_secret(self, endpoint_id: str, overlap_seconds: float) -> str:
        """Give an endpoint a new secret and return it; the old ones go on signing for so long (Stripe: up to 24 hours)."""
        self.world.get("endpoint", endpoint_id)
        until = self.clock.now() + overlap_seconds
        old = self.world.tables["secret"][endpoint_id]["values"]
        kept = [one | {"until": min(until, one["until"] or until)} for one in old]
        fresh = self.world.mint.secret()
        values = [{"secret": fresh, "until": None}, *(one for one in kept if one["until"] > self.clock.now())]
        self.world.put("secret", {"id": endpoint_id, "values": values})
        self.commit()
        return fresh

    def clear(self) -> None:
        """Put every switch to rest, the clock included. The world stays, and what is on its way falls due as soon as before."""
        self.faults.waiting.clear()
        self.world.losses.waiting.clear()
        if self.clock.ahead_seconds:
            # What follows by itself within seconds must not be left behind in a day that is over.
            self.advance(AFTERMATH_SECONDS)
        self.outbox.set_back(self.clock.ahead_seconds)
        self.clock.reset()
        self._set_alarm()
        self.outbox.switch(Switches())

    def _act(self) -> None:
        """Do everything that is due by now, one after the other, each with events of its own."""
        while self._timetable.act(self.clock.now()):
            self.commit()

    def _set_alarm(self) -> None:
        moment = self._timetable.next_moment
        if self._alarm:
            self._alarm.cancel()
        if moment is not None:
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, moment - self.clock.now()), self._ring)

    def _ring(self) -> None:
        self._act()
        self._set_alarm()

    def _open_endpoint(self) -> None:
        """Have the endpoint of the command line, at the address of this start; its choices are what they were."""
        endpoint_id = self.world.mint.endpoint_id
        kept = self.world.tables["endpoint"].get(endpoint_id)
        fresh = endpoint.new(endpoint_id, {"url": self.settings.webhook_url}, created=self.now)
        self.world.put("endpoint", (kept or fresh) | {"url": self.settings.webhook_url})
        given = [secret.strip() for secret in self.settings.webhook_secret.split(",")]
        known = self.world.tables["secret"].get(endpoint_id, {"values": []})["values"]
        if not {one["secret"] for one in known}.issuperset(given):  # else it was rolled here, and the new one stays valid
            self.world.put("secret", {"id": endpoint_id, "values": [{"secret": one, "until": None} for one in given]})
        self.commit()

    def _load(self) -> None:
        for kind, key, body in self._store.load():
            if kind == "mint":
                self.world.mint = msgspec.json.decode(body, type=Mint)
            elif kind == "delivery":
                self.outbox.restore(msgspec.json.decode(body, type=Delivery))
            elif kind == "answer":
                self.answers.stored[key] = msgspec.json.decode(body, type=Answer)
            else:
                self.world.restore(kind, msgspec.json.decode(body))
        old = [key for key, kept in self.answers.stored.items() if kept.at + KEEP_SECONDS <= self.settings.now()]
        self._store.forget("answer", old)
        for key in old:
            del self.answers.stored[key]
