"""Our database's rows about a simulation's bookings, as far as a comparison needs them. Next: comparison.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Booking:
    """A row of `bookings`."""

    id: str
    status: str
    payment_id: str | None


@dataclass(frozen=True)
class Payment:
    """A row of `payments`."""

    id: str
    booking_id: str
    session_id: str | None
    intent_id: str | None
    amount_minor: int
    currency: str
    status: str
    refunded_minor: int


@dataclass(frozen=True)
class Refund:
    """A row of `refunds`."""

    id: str
    payment_id: str
    status: str
    amount_minor: int


@dataclass(frozen=True)
class Dispute:
    """A row of `disputes`."""

    id: str
    payment_id: str
    status: str


@dataclass(frozen=True)
class Matter:
    """An open row of `attention`; `aggregate` is `payment:…` or `booking:…`."""

    reason: str
    aggregate: str


@dataclass(frozen=True)
class Letter:
    """A row of `letters`."""

    booking_id: str
    kind: str
    role: str
    cause: str
    state: str
    reason: str
    message_id: str
    possible_duplicates: int


@dataclass(frozen=True)
class Waiting:
    """A row of `waiting_events`: an event that found no payment."""

    event_id: str
    object_key: str


@dataclass(frozen=True)
class Rows:
    """What our database says of a simulation's bookings."""

    bookings: tuple[Booking, ...] = ()
    payments: tuple[Payment, ...] = ()
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    matters: tuple[Matter, ...] = ()
    letters: tuple[Letter, ...] = ()
    waiting: tuple[Waiting, ...] = ()
