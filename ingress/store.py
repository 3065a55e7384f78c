"""The SQL of the door.

Enters: a transaction and what one statement needs. Leaves: plain values. The door inserts rows of `payments` and
writes stripe_session_id, closed_at, expires_at, checkout_request and idempotency_key there; everything else it only reads.
CultureBridge's times are naive UTC, here every moment is aware.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared import errors
from shared.db.engine import TROUBLE, rows, sqlstate
from shared.domain import money

DEADLINE_SECONDS = 5.0  # for a whole transaction of ours, which takes milliseconds; a caller waits no longer for a 503
# SQLSTATE classes of faults in our statement or its data, not of the server: 22 data, 23 constraint, 42 syntax or rights.
OUR_OWN_FAULT = ("22", "23", "42")


class DatabaseAway(errors.Transient):
    """PostgreSQL did not finish in time; whether a commit happened is unknown, and the next call finds out."""


@dataclass(frozen=True, slots=True)
class User:
    """The user whom a token names."""

    role: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Booking:
    """What a checkout needs of a booking; `hourly_rate` in units of `currency` (upper case)."""

    id: UUID
    client_id: UUID
    coach_id: UUID
    status: str
    starts_at: datetime
    duration_minutes: int
    client_email: str
    coach_name: str
    hourly_rate: Decimal | None
    currency: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of `payments` as checkout sees it; `request` is what was or will be asked of Stripe for it.

    `is_attempted`: an event has named an intent of it, so the customer was on Stripe's page and may have paid there.
    """

    id: UUID
    booking_id: UUID
    amount_minor: int
    currency: str
    is_paid: bool
    is_attempted: bool
    created_at: datetime
    expires_at: datetime | None
    closed_at: datetime | None
    session_id: str | None
    request: Mapping[str, Any]
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class BlockingPayments:
    """The payments that may block a new checkout of a booking: its open one, a paid one, the open one with the same key."""

    open: Payment | None
    paid: Payment | None
    same_key: Payment | None


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment as the API shows it, and the two people of its booking."""

    id: UUID
    booking_id: UUID
    client_id: UUID
    coach_id: UUID
    amount_minor: int
    amount_refunded_minor: int
    currency: str
    status: str
    failure_reason: str | None
    created_at: datetime
    updated_at: datetime


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield one transaction, committed at the end of the block; raises DatabaseAway when PostgreSQL fails or is slow."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), engine.begin() as tx:
            yield tx
    except TROUBLE as error:
        state = sqlstate(error) or ""
        if state.startswith(OUR_OWN_FAULT):
            raise
        raise DatabaseAway(f"{type(error).__name__} {state}".rstrip()) from error


USER = "select role::text, is_active from users where id = $1"


async def load_user(tx: AsyncConnection, user_id: UUID) -> User | None:
    """Return the role and state of a user now."""
    found = await rows(tx, USER, user_id)
    return User(*found[0]) if found else None


# PostgreSQL has years that Python has not: they are cut to the first and the last day of Python's.
BOOKING = """
select b.id, b.client_id, b.coach_id, b.status::text, greatest('0001-01-01', least(b.session_datetime, '9999-12-31')),
       b.duration_minutes, u.email,
       concat_ws(' ', nullif(trim(c.first_name), ''), nullif(trim(c.last_name), '')), c.hourly_rate,
       upper(coalesce(c.currency, 'USD'))
from bookings b join users u on u.id = b.client_id left join coach_profiles c on c.user_id = b.coach_id
where b.id = $1
"""


async def load_booking(tx: AsyncConnection, booking_id: UUID) -> Booking | None:
    """Return a booking with what its price is computed from; a coach without a profile has neither name nor rate."""
    found = await rows(tx, BOOKING, booking_id)
    if not found:
        return None
    (id_, client_id, coach_id, status, starts_at, *rest) = found[0]
    return Booking(id_, client_id, coach_id, status, starts_at.replace(tzinfo=UTC), *rest)


PAYMENT_COLUMNS = """
id, booking_id, amount, amount_minor, currency, status = 'succeeded',
stripe_payment_intent_id is not null, created_at, expires_at, closed_at,
stripe_session_id, checkout_request, idempotency_key
"""
BLOCKING = "select" + PAYMENT_COLUMNS + "from payments where booking_id = $1 or (idempotency_key = $2 and closed_at is null)"
PAYMENT = "select" + PAYMENT_COLUMNS + "from payments where id = $1"


async def load_blocking_payments(tx: AsyncConnection, booking_id: UUID, idempotency_key: str | None) -> BlockingPayments:
    """Return the payments that may block a checkout of this booking under this key."""
    found = [_payment(row) for row in await rows(tx, BLOCKING, booking_id, idempotency_key)]
    ours = [payment for payment in found if payment.booking_id == booking_id]
    return BlockingPayments(
        open=next((payment for payment in ours if payment.closed_at is None), None),
        paid=next((payment for payment in ours if payment.is_paid), None),
        same_key=next((p for p in found if p.closed_at is None and p.idempotency_key == idempotency_key is not None), None),
    )


async def load_payment(tx: AsyncConnection, payment_id: UUID) -> Payment | None:
    """Return one payment as checkout sees it."""
    found = await rows(tx, PAYMENT, payment_id)
    return _payment(found[0]) if found else None


# Nothing is inserted while another payment of the booking is open (unique index), has this key (likewise) or is paid.
INSERT = """
insert into payments (id, booking_id, amount, amount_minor, currency, expires_at, checkout_request, idempotency_key)
select $1, $2, $3, $4, $5, $6, $7, $8
where not exists (select 1 from payments where booking_id = $2 and status = 'succeeded')
on conflict do nothing returning created_at
"""


async def insert_payment(tx: AsyncConnection, payment: Payment) -> bool:
    """Insert a PENDING payment, before Stripe is called; False when another one was inserted first."""
    amount = money.to_decimal(payment.amount_minor, payment.currency)
    return bool(
        await rows(
            tx,
            INSERT,
            payment.id,
            payment.booking_id,
            amount,
            payment.amount_minor,
            payment.currency,
            payment.expires_at,
            _json(payment.request),
            payment.idempotency_key,
        )
    )


CLOSE = """
update payments set closed_at = $2 where id = $1 and closed_at is null and stripe_session_id is not distinct from $3
and status <> 'succeeded' returning id
"""


async def close_payment(tx: AsyncConnection, payment: Payment, now: datetime) -> bool:
    """Close a payment, which then blocks its booking no longer; False when it was closed, paid or bound since it was read."""
    return bool(await rows(tx, CLOSE, payment.id, now, payment.session_id))


BIND = """
update payments set stripe_session_id = $2, checkout_request = $3
where id = $1 and coalesce(stripe_session_id, $2) = $2 and closed_at is null returning id
"""


async def bind_session(tx: AsyncConnection, payment: Payment, session_id: str, request: Mapping[str, Any]) -> bool:
    """Bind a session to its payment; only then may its URL be returned. False when the row was closed, or bound to another.

    An event may have bound it already, and left the whole request in the row: name and address are removed here.
    """
    return bool(await rows(tx, BIND, payment.id, session_id, _json(request)))


PAYMENT_VIEW = """
select p.id, p.booking_id, b.client_id, b.coach_id, p.amount, p.amount_minor, p.amount_refunded_minor, p.currency,
       p.status::text, p.failure_reason, p.created_at, p.updated_at
from payments p join bookings b on b.id = p.booking_id where p.id = $1
"""


async def load_payment_view(tx: AsyncConnection, payment_id: UUID) -> PaymentView | None:
    """Return one payment for those who may see it; a row of the older application shows the same facts."""
    found = await rows(tx, PAYMENT_VIEW, payment_id)
    if not found:
        return None
    (id_, booking_id, client_id, coach_id, amount, amount_minor) = found[0][:6]
    (refunded_minor, currency, status, reason, made, changed) = found[0][6:]
    if amount_minor is None:
        amount_minor = money.nearest_minor(amount, currency)
        refunded_minor = amount_minor if status == "refunded" else 0
    return PaymentView(
        id=id_,
        booking_id=booking_id,
        client_id=client_id,
        coach_id=coach_id,
        amount_minor=amount_minor,
        amount_refunded_minor=refunded_minor,
        currency=currency.upper(),
        status=status,
        failure_reason=reason if status == "failed" else None,
        created_at=made.replace(tzinfo=UTC),
        updated_at=changed.replace(tzinfo=UTC),
    )


def _payment(row: Any) -> Payment:
    (id_, booking_id, amount, amount_minor, currency, is_paid, is_attempted) = row[:7]
    made, expires_at, closed_at, session_id, request, key = row[7:]
    return Payment(
        id=id_,
        booking_id=booking_id,
        amount_minor=money.nearest_minor(amount, currency) if amount_minor is None else amount_minor,
        currency=currency.upper(),
        is_paid=is_paid,
        is_attempted=is_attempted,
        created_at=made.replace(tzinfo=UTC),
        expires_at=expires_at,
        closed_at=closed_at,
        session_id=session_id,
        request=msgspec.json.decode(request) if isinstance(request, str | bytes) else request or {},
        idempotency_key=key,
    )


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
