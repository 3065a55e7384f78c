"""Everything that exists at this Stripe, and the events that tell of it. No I/O.

``checkout`` and ``refunds`` change the world through ``put`` and ``tell``; ``take`` hands what changed to ``sandbox``,
which keeps it and sends its webhooks.
"""

from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe import ids
from deploy.dev.stripe.errors import missing_object
from deploy.dev.stripe.faults import Armed, Loss
from deploy.dev.stripe.ids import Mint, stem_of
from deploy.dev.stripe.objects import event

Json = dict[str, Any]

# kind -> how Stripe's refusals call it. A cart is what a session remembers beside its public
# shape, a secret what an endpoint does.
NOUNS = {
    "session": "checkout.session",
    "cart": "cart",
    "intent": "payment_intent",
    "method": "payment_method",
    "charge": "charge",
    "refund": "refund",
    "dispute": "dispute",
    "product": "product",
    "price": "price",
    "event": "event",
    "endpoint": "webhook endpoint",
    "secret": "secret",
}


@dataclass(frozen=True)
class Changes:
    """What one operation did: objects as (kind, object), the events born, in Stripe's order, and what is gone (kind, id)."""

    objects: list[tuple[str, Json]]
    events: list[Json]
    removed: list[tuple[str, str]]


class World:
    """Objects by kind and id, in order of birth."""

    def __init__(self, seed: int) -> None:
        self.mint = Mint(seed)
        self.tables: dict[str, dict[str, Json]] = {kind: {} for kind in NOUNS}
        self.losses = Armed[Loss]()
        self.twins = 0  # further Event objects for each change; Stripe says that there may be two (docs.stripe.com/webhooks)
        self._session_of_intent: dict[str, str] = {}
        self._refunds_of_charge: dict[str, list[str]] = {}
        self._changed: dict[tuple[str, str], Json] = {}
        self._news: list[Json] = []
        self._removed: list[tuple[str, str]] = []

    def restore(self, kind: str, thing: Json) -> None:
        """Put back an object that was kept; nobody is told."""
        self.tables[kind][thing["id"]] = thing
        if kind == "session" and thing["payment_intent"]:
            self._session_of_intent[thing["payment_intent"]] = thing["id"]
        if kind == "refund" and thing["id"] not in (known := self._refunds_of_charge.setdefault(thing["charge"], [])):
            known.append(thing["id"])

    def put(self, kind: str, thing: Json) -> None:
        """Keep an object, new or changed."""
        self.restore(kind, thing)
        self._changed[kind, thing["id"]] = thing

    def remove(self, kind: str, object_id: str) -> None:
        """Forget an object for good."""
        del self.tables[kind][object_id]
        self._changed.pop((kind, object_id), None)
        self._removed.append((kind, object_id))

    def get(self, kind: str, object_id: str, *, param: str = "id", status: int = 404) -> Json:
        """Return the object with this id, or refuse as Stripe does."""
        found = self.tables[kind].get(object_id)
        if found is None:
            raise missing_object(NOUNS[kind], object_id, param=param, status=status)
        return found

    def session_of(self, intent_id: str) -> Json | None:
        """Return the session that made this intent."""
        session_id = self._session_of_intent.get(intent_id)
        return self.tables["session"][session_id] if session_id else None

    def refunds_of(self, charge_id: str) -> list[Json]:
        """Return a charge's refunds, oldest first."""
        return [self.tables["refund"][refund_id] for refund_id in self._refunds_of_charge.get(charge_id, [])]

    def tell(self, kind: str, subject: Json, *, now: int, cause: Json, previous: Json | None = None) -> str:
        """Record an event of this kind about ``subject`` as it is now, unless it is to get lost; return its id."""
        event_ids = [self._event_id(subject["id"]) for _ in range(1 + self.twins)]
        if self.losses.take(kind):
            return event_ids[0]
        for event_id in event_ids:
            told = event.new(event_id, kind, subject, created=now, request=cause, previous=previous)
            self.put("event", told)
            self._news.append(told)
        return event_ids[0]

    def take(self) -> Changes:
        """Return everything that changed since the last call, and forget that it did."""
        changes = Changes([(kind, thing) for (kind, _), thing in self._changed.items()], self._news, self._removed)
        self._changed, self._news, self._removed = {}, [], []
        return changes

    def _event_id(self, subject_id: str) -> str:
        belongs = ids.is_of_payment(subject_id)
        return self.mint.of_payment("evt", stem_of(subject_id)) if belongs else self.mint.alone("evt")
