"""All that is known about one booking and its payments, as plain values; pure.

Amounts are minor units of the currency beside them, moments are aware UTC. Next: why.py reads a story, explanation.py puts it
into words.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from deploy.ops.matters import Matter

State = Mapping[str, object]  # what the ledger keeps of a payment: the fields of `payments.events` that matter most


@dataclass(frozen=True, slots=True)
class Booking:
    """One row of `bookings`; `payment_id` is the payment that holds it."""

    id: uuid.UUID
    status: str
    payment_id: uuid.UUID | None
    session_at: datetime


@dataclass(frozen=True, slots=True)
class Payment:
    """One row of `payments`. `open`: it still blocks a new checkout of its booking."""

    id: uuid.UUID
    status: str
    amount_minor: int
    amount_refunded_minor: int
    currency: str
    version: int
    failure_reason: str | None
    closed_reason: str | None
    open: bool
    session_id: str | None
    intent_id: str | None
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund of a payment, as Stripe last reported it: `status` is pending, succeeded, failed and so on."""

    id: str
    payment_id: uuid.UUID
    status: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Dispute:
    """One dispute of a payment: `status` is needs_response, won, lost and so on."""

    id: str
    payment_id: uuid.UUID
    status: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the payment ledger: an event, what was decided about it, and where in Kafka it lay.

    `fact` is what the event said, in the fields of a fact of shared/domain/payment.py; lines of an earlier release have none.
    """

    recorded_at: datetime
    event_id: str
    event_type: str
    event_created: datetime | None
    payment_id: uuid.UUID | None
    decision: str
    reason: str | None
    before: State | None
    after: State | None
    topic: str
    partition: int
    offset: int
    fact: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class BookingChange:
    """What the bookings consumer published: `name` without its prefix (booking.confirmed), because of which payment."""

    at: datetime
    name: str
    payment_id: uuid.UUID
    reason: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """One row of the ledger of letters; `answer` is the mail server's code, without its words."""

    kind: str
    role: str
    state: str
    reason: str | None
    attempts: int
    answer: str | None
    possible_duplicates: int
    queued_at: datetime
    updated_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits under `key` (an id of Stripe's) for its payment; `state` is waiting or refused."""

    event_id: str
    event_type: str | None
    key: str
    seen_at: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one booking, each kind in time order; without a booking, about events that found no payment."""

    asked: str
    booking: Booking | None = None
    payments: tuple[Payment, ...] = ()
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    lines: tuple[Line, ...] = ()
    changes: tuple[BookingChange, ...] = ()
    letters: tuple[Letter, ...] = ()
    matters: tuple[Matter, ...] = ()
    waiting: tuple[Waiting, ...] = ()
