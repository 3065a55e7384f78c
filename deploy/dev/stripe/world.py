"""Everything that exists at this Stripe, and the events that tell of it. No I/O.

``checkout`` and ``refunds`` change the world through ``put`` and ``tell``; ``take`` hands what changed to ``sandbox``,
which keeps it and sends its webhooks.
"""

from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe.errors import missing_object
from deploy.dev.stripe.ids import Mint, stem_of
from deploy.dev.stripe.objects import event

Json = dict[str, Any]

# kind -> how Stripe's refusals call it. A cart is what a session remembers beside its public shape.
NOUNS = {
    "session": "checkout.session",
    "cart": "cart",
    "intent": "payment_intent",
    "method": "payment_method",
    "charge": "charge",
    "refund": "refund",
    "event": "event",
    "endpoint": "webhook endpoint",
}


@dataclass(frozen=True)
class Changes:
    """What one operation did: objects as (kind, object), and the events born, in Stripe's order."""

    objects: list[tuple[str, Json]]
    events: list[Json]


class World:
    """Objects by kind and id, in order of birth."""

    def __init__(self, seed: int) -> None:
        self.mint = Mint(seed)
        self.tables: dict[str, dict[str, Json]] = {kind: {} for kind in NOUNS}
        self._session_of_intent: dict[str, str] = {}
        self._changed: dict[tuple[str, str], Json] = {}
        self._news: list[Json] = []

    def restore(self, kind: str, thing: Json) -> None:
        """Put back an object that was kept; nobody is told."""
        self.tables[kind][thing["id"]] = thing
        if kind == "session" and thing["payment_intent"]:
            self._session_of_intent[thing["payment_intent"]] = thing["id"]

    def put(self, kind: str, thing: Json) -> None:
        """Keep an object, new or changed."""
        self.restore(kind, thing)
        self._changed[kind, thing["id"]] = thing

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

    def tell(self, kind: str, subject: Json, *, now: int, cause: Json, previous: Json | None = None) -> str:
        """Record an event of this kind about ``subject`` as it is now; return its id."""
        of_session = subject["object"] == "checkout.session"
        event_id = self.mint.alone("evt") if of_session else self.mint.of_payment("evt", stem_of(subject["id"]))
        told = event.new(event_id, kind, subject, created=now, request=cause, previous=previous)
        self.put("event", told)
        self._news.append(told)
        return event_id

    def take(self) -> Changes:
        """Return everything that changed since the last call, and forget that it did."""
        changes = Changes([(kind, thing) for (kind, _), thing in self._changed.items()], self._news)
        self._changed, self._news = {}, []
        return changes
