"""Which webhooks are due, when, and how they may be disturbed. No I/O. Next: ``courier`` sends them.

Stripe promises delivery at least once and no order (docs.stripe.com/webhooks); the switches make both visible.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from deploy.dev.stripe.forgeries import Forgery

Json = dict[str, Any]

RETRY_SCHEDULE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
MINUTE, HOUR = 60.0, 3600.0
# Stripe publishes no table for live mode, only exponential back-off over three days: sixteen steps of that kind.
LIVE_SCHEDULE_SECONDS = (
    *(MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR),
    *(6 * HOUR, 6 * HOUR, 6 * HOUR, 8 * HOUR, 8 * HOUR, 10 * HOUR, 12 * HOUR),
)
KEEP_TRYING_SECONDS = 3 * 24 * 60 * 60  # Stripe's promise in live mode
COPIES_MAX = 100  # of one event; a slip of the finger would fill the memory

Reason = Literal["event", "duplicate", "redelivery", "forgery"]
Order = Literal["as_born", "oldest_last", "newest_first"] | tuple[int, ...]


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """How deliveries are disturbed; the defaults disturb nothing.

    ``twins`` further Event objects for each change, each with an id of its own. ``duplicates`` further copies of an
    event, for a ``duplicate_share`` of events (0 to 1). All wait ``delay_ms`` and then a random part of ``reorder_ms``.
    ``order`` leads the events of one change through the door one after the other: by position ([3, 0, 1, 2]; who is not
    named comes last), the oldest last, or the newest first. ``forgeries`` go out beside each event, once each. The
    ``drop_first`` attempts of each delivery get lost on the way. ``paused`` holds everything, ``paused_endpoints`` what
    goes to these. After the last step of ``retry_schedule_seconds`` its length repeats for three days; ``live`` is a
    schedule as long as Stripe's. ``seed`` begins the dice anew.
    """

    twins: int = 0
    duplicates: int = 0
    duplicate_share: float = 1.0
    delay_ms: int = 0
    reorder_ms: int = 0
    order: Order = "as_born"
    forgeries: tuple[Forgery, ...] = ()
    drop_first: int = 0
    paused: bool = False
    paused_endpoints: tuple[str, ...] = ()
    retry_schedule_seconds: tuple[float, ...] | Literal["live"] = RETRY_SCHEDULE_SECONDS
    seed: int | None = None

    def __post_init__(self) -> None:
        if min(self.twins, self.duplicates, self.delay_ms, self.reorder_ms, self.drop_first) < 0:
            raise ValueError("twins, duplicates, delay_ms, reorder_ms and drop_first must not be negative")
        if max(self.twins, self.duplicates) > COPIES_MAX:
            raise ValueError(f"twins and duplicates must be at most {COPIES_MAX}")
        if max(self.delay_ms, self.reorder_ms) > KEEP_TRYING_SECONDS * 1000:
            raise ValueError("delay_ms and reorder_ms must be at most three days")
        if not 0 <= self.duplicate_share <= 1:
            raise ValueError("duplicate_share is a probability")
        if not self.steps_seconds or not all(0 < step <= KEEP_TRYING_SECONDS for step in self.steps_seconds):
            raise ValueError("retry_schedule_seconds needs at least one step, all of them positive and at most three days")

    @property
    def steps_seconds(self) -> tuple[float, ...]:
        """How long to wait after each failed attempt."""
        return LIVE_SCHEDULE_SECONDS if self.retry_schedule_seconds == "live" else self.retry_schedule_seconds

    def holds(self, endpoint_id: str) -> bool:
        """Tell whether nothing may go to this endpoint now."""
        return self.paused or endpoint_id in self.paused_endpoints


class Attempt(msgspec.Struct, frozen=True):
    """One knock at the webhook: its answer's status, or the error instead of an answer."""

    at: float
    status: int | None
    error: str | None
    latency_ms: float

    @property
    def accepted(self) -> bool:
        """Whether the receiver took the event: any 2xx, and nothing else."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own range


class Delivery(msgspec.Struct):
    """One copy of an event on its way to one endpoint, with everything that happened to it.

    Times are seconds since the epoch by the sandbox's clock; an attempt's is real. ``pending_webhooks`` is what this
    copy says of it. It leaves only once ``after`` was attempted.
    """

    id: str
    event_id: str
    endpoint_id: str
    reason: Reason
    born_at: float
    due_at: float
    pending_webhooks: int = 1
    forgery: Forgery | None = None
    after: str | None = None
    state: Literal["pending", "delivered", "given_up"] = "pending"
    attempts: list[Attempt] = []  # msgspec gives each struct its own

    def record(self, attempt: Attempt, schedule_seconds: tuple[float, ...], *, now: float) -> None:
        """Add an attempt and decide what follows from it."""
        self.attempts.append(attempt)
        failures = len(self.attempts)
        if attempt.accepted:
            self.state = "delivered"
            return
        self.due_at = now + schedule_seconds[min(failures, len(schedule_seconds)) - 1]
        if self.reason == "forgery" or self.due_at > self.born_at + KEEP_TRYING_SECONDS:
            self.state = "given_up"


def plan(events: Iterable[Json], endpoint_id: str, switches: Switches, chance: random.Random, *, now: float) -> list[Delivery]:
    """Return the deliveries that the new events of one change ask for at one endpoint."""
    owed: list[Delivery] = []
    previous: str | None = None
    for event in _ordered(list(events), switches.order):
        first = _delivery(event, endpoint_id, now=now)
        first.after = previous
        copies = switches.duplicates if chance.random() < switches.duplicate_share else 0
        several = [first, *(_copy(first, f"copy{number}", "duplicate") for number in range(1, copies + 1))]
        for delivery in several:
            delivery.due_at = now + (switches.delay_ms + chance.uniform(0, switches.reorder_ms)) / 1000
        owed += several
        owed += [_copy(first, forgery, "forgery", forgery) for forgery in switches.forgeries]
        previous = first.id if switches.order != "as_born" else None
    return owed


def once_more(event: Json, endpoint_id: str, nth: int, *, now: float, forgery: Forgery | None = None) -> Delivery:
    """Return a further delivery of an event, whatever became of it before; ``nth`` tells it from the others."""
    reason: Reason = "forgery" if forgery else "redelivery"
    return _copy(_delivery(event, endpoint_id, now=now), f"again{nth}", reason, forgery)


def _delivery(event: Json, endpoint_id: str, *, now: float) -> Delivery:
    return Delivery(
        id=f"{event['id']}.{endpoint_id}",
        event_id=event["id"],
        endpoint_id=endpoint_id,
        reason="event",
        born_at=now,
        due_at=now,
        pending_webhooks=max(1, event["pending_webhooks"]),
    )


def _copy(delivery: Delivery, name: str, reason: Reason, forgery: Forgery | None = None) -> Delivery:
    return msgspec.structs.replace(
        delivery, id=f"{delivery.id}.{name}", reason=reason, forgery=forgery, due_at=delivery.born_at, after=None, attempts=[]
    )


def _ordered(events: Sequence[Json], order: Order) -> list[Json]:
    match order:
        case "as_born":
            places: Sequence[int] = range(len(events))
        case "oldest_last":
            places = range(1, len(events))
        case "newest_first":
            places = range(len(events) - 1, -1, -1)
        case _:
            places = [place for place in dict.fromkeys(order) if 0 <= place < len(events)]
    named = [events[place] for place in places]
    return named + [event for place, event in enumerate(events) if place not in set(places)]
