"""What is owed to whom: new events become deliveries to every endpoint that wants them, and answers settle them.

Events enter from ``sandbox.commit``; deliveries leave to ``courier``, and to the file what has to outlive a restart.
"""

import random
from collections.abc import Iterable
from typing import Any

from deploy.dev.stripe import clock, deliveries, forgeries
from deploy.dev.stripe.courier import Courier, Door
from deploy.dev.stripe.deliveries import Attempt, Delivery, Switches
from deploy.dev.stripe.objects import endpoint
from deploy.dev.stripe.store import Row, Store
from deploy.dev.stripe.world import World

Json = dict[str, Any]


class Outbox:
    """Every delivery of this sandbox."""

    def __init__(self, world: World, store: Store, now: clock.Clock) -> None:
        self.deliveries: dict[str, Delivery] = {}
        self.courier = Courier(door=self._door, now=now, attempted=self._keep_attempt)
        self._world = world
        self._store = store
        self._now = now
        self._chance = random.Random(world.mint.seed)  # noqa: S311 - disorder on purpose, repeatable by seed
        self._owing: dict[str, set[str]] = {}  # event id -> endpoints that have not accepted it yet

    @property
    def switches(self) -> Switches:
        """How deliveries are disturbed."""
        return self.courier.switches

    def switch(self, switches: Switches) -> None:
        """Disturb what is delivered from now on as told."""
        self._world.twins = switches.twins
        if switches.seed is not None:
            self._chance = random.Random(switches.seed)  # noqa: S311 - same
        self.courier.switch(switches)

    def set_back(self, seconds: float) -> None:
        """Let what is on its way fall due as soon as before, by a clock that is set back by so many seconds."""
        for delivery in self.deliveries.values():
            if delivery.state == "pending":
                delivery.due_at -= seconds
                delivery.born_at = min(delivery.born_at, delivery.due_at)

    def restore(self, delivery: Delivery) -> None:
        """Take back a delivery that was kept, but not its place in an order, nor what had put it off."""
        delivery.after = None
        # The switches are at rest now, the clock included, by which it may have been due days ahead.
        delivery.due_at = min(delivery.due_at, self._now() + deliveries.RETRY_SCHEDULE_SECONDS[-1])
        self.deliveries[delivery.id] = delivery
        owing = self._owing.setdefault(delivery.event_id, set())
        if delivery.reason == "event":
            owing.add(delivery.endpoint_id)
        if _settles(delivery):
            owing.discard(delivery.endpoint_id)

    def resume(self) -> None:
        """Begin to carry what a restart found owed."""
        self.courier.start()
        self.carry([delivery for delivery in self.deliveries.values() if delivery.state == "pending"])

    def owe(self, events: list[Json]) -> list[Delivery]:
        """Return the deliveries that these new events ask for, and write into each how many endpoints are owed it."""
        told: dict[str, list[Json]] = {}
        for each in self._world.tables["endpoint"].values():
            told[each["id"]] = [event for event in events if endpoint.is_told(each, event)]
        for event in events:
            self._owing[event["id"]] = {name for name, some in told.items() if event in some}
            event["pending_webhooks"] = len(self._owing[event["id"]])
        return [
            delivery
            for endpoint_id, some in told.items()
            for delivery in deliveries.plan(some, endpoint_id, self.switches, self._chance, now=self._now())
        ]

    def carry(self, owed: Iterable[Delivery]) -> None:
        """Begin to carry these; they must be kept already."""
        owed = list(owed)
        self.deliveries |= {delivery.id: delivery for delivery in owed}
        self.courier.send((delivery, self._world.tables["event"][delivery.event_id]) for delivery in owed)

    def once_more(self, event_id: str, endpoint_id: str | None, forgery: forgeries.Forgery | None = None) -> list[Delivery]:
        """Send an event again to one endpoint, or to all, as it is or forged."""
        event = self._world.get("event", event_id)
        names = [self._world.get("endpoint", endpoint_id)["id"]] if endpoint_id else list(self._world.tables["endpoint"])
        nth = len(self.deliveries)
        again = [deliveries.once_more(event, name, nth, now=self._now(), forgery=forgery) for name in names]
        self._store.save([("delivery", delivery.id, delivery) for delivery in again])
        self.carry(again)
        return again

    def _door(self, endpoint_id: str) -> Door | None:
        found = self._world.tables["endpoint"].get(endpoint_id)
        if found is None or found["status"] != "enabled":
            return None
        kept = self._world.tables["secret"][endpoint_id]["values"]
        return Door(found["url"], [one["secret"] for one in kept if one["until"] is None or one["until"] > self._now()])

    def _keep_attempt(self, delivery: Delivery, attempt: Attempt | None) -> None:
        rows: list[Row] = [("delivery", delivery.id, delivery)]
        owing = self._owing[delivery.event_id]
        gone = attempt is None and delivery.endpoint_id not in self._world.tables["endpoint"]
        if delivery.endpoint_id in owing and (gone or _settles(delivery)):
            owing.remove(delivery.endpoint_id)
            told = self._world.tables["event"][delivery.event_id]
            told["pending_webhooks"] = len(owing)
            rows.append(("event", told["id"], told))
        self._store.save(rows)


def _settles(delivery: Delivery) -> bool:
    return delivery.state == "delivered" and delivery.reason != "forgery"
