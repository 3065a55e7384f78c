"""What happens at this Stripe by itself, and when: read off the objects, so that a restart finds all of it again.

An object enters, the moments at which something is due with it leave. No I/O. Next: ``sandbox`` waits for them.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe import checkout
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.world import World

Json = dict[str, Any]

SETTLE_SECONDS = 1.5  # real balance transactions follow their charge by one to two seconds


@dataclass(frozen=True)
class Rule:
    """When (None: not, or not any more) something is due with an object of this kind, and what is done then."""

    kind: str
    moment: Callable[[World, Json], float | None]
    act: Callable[[World, Json, int], object]


def _end_of_session(_world: World, session: Json) -> float | None:
    return session["expires_at"] if session["status"] == "open" else None


def _settlement(_world: World, charge: Json) -> float | None:
    return charge["created"] + SETTLE_SECONDS if charge["paid"] and not charge["balance_transaction"] else None


RULES = {
    "expiry": Rule("session", _end_of_session, lambda world, it, now: checkout.expire(world, it, now=now, cause=event.cause())),
    "settlement": Rule("charge", _settlement, lambda world, it, now: checkout.settle(world, it, now=now)),
}
BY_KIND = {rule.kind: [(name, each) for name, each in RULES.items() if each.kind == rule.kind] for rule in RULES.values()}


class Timetable:
    """Everything that is due some day, earliest first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: list[tuple[float, str, str]] = []

    def note(self, kind: str, thing: Json) -> None:
        """Look at an object that is new or has changed."""
        for name, rule in BY_KIND.get(kind, ()):
            moment = rule.moment(self._world, thing)
            if moment is not None:
                heapq.heappush(self._entries, (moment, name, thing["id"]))

    @property
    def next_moment(self) -> float | None:
        """When something may be due next."""
        return self._entries[0][0] if self._entries else None

    def act(self, now: float) -> bool:
        """Do the first thing that is due by now; False when there is none. Changes are in the world, not kept yet."""
        while self._entries and self._entries[0][0] <= now:
            at, name, object_id = heapq.heappop(self._entries)
            rule = RULES[name]
            thing = self._world.tables[rule.kind].get(object_id)
            # An object that changed has other entries for its other moments; one that was dealt with has none.
            if thing is not None and rule.moment(self._world, thing) == at:
                rule.act(self._world, thing, int(now))
                return True
        return False
