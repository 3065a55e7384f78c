"""Which webhooks are owed, when, and how they may be disturbed. No I/O. Next: ``courier`` carries them.

Stripe promises at least once and no order (docs.stripe.com/webhooks); the switches make a receiver feel it.
"""

import random
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Json = dict[str, Any]

RETRY_SCHEDULE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
KEEP_TRYING_SECONDS = 3 * 24 * 60 * 60  # Stripe's promise in live mode


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """How deliveries are disturbed; the defaults disturb nothing.

    ``duplicates`` further copies of each event; all wait ``delay_ms`` and then a random part of ``reorder_ms``;
    ``paused`` sends nothing until it is false again. After the last step of ``retry_schedule_seconds`` its length
    repeats for three days.
    """

    duplicates: int = 0
    delay_ms: int = 0
    reorder_ms: int = 0
    paused: bool = False
    retry_schedule_seconds: tuple[float, ...] = RETRY_SCHEDULE_SECONDS

    def __post_init__(self) -> None:
        if min(self.duplicates, self.delay_ms, self.reorder_ms) < 0:
            raise ValueError("duplicates, delay_ms and reorder_ms must not be negative")
        if not self.retry_schedule_seconds or min(self.retry_schedule_seconds) <= 0:
            raise ValueError("retry_schedule_seconds needs at least one positive step")


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
    """One copy of an event on its way, with everything that happened to it; times are seconds since the epoch."""

    id: str
    event_id: str
    reason: Literal["event", "duplicate", "redelivery"]
    born_at: float
    due_at: float
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
        if self.due_at > self.born_at + KEEP_TRYING_SECONDS:
            self.state = "given_up"


def plan(events: Iterable[Json], switches: Switches, chance: random.Random, *, now: float) -> list[Delivery]:
    """Return the deliveries that these new events ask for."""
    return [
        Delivery(
            id=f"{event['id']}.{copy}",
            event_id=event["id"],
            reason="duplicate" if copy else "event",
            born_at=now,
            due_at=now + (switches.delay_ms + chance.uniform(0, switches.reorder_ms)) / 1000,
        )
        for event in events
        for copy in range(1 + switches.duplicates)
    ]
