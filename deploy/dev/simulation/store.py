"""The SQL of a simulation: it writes people and bookings, which is the older application's work, and reads what became of them.

Enters: a crowd. Leaves: who got which ids, and later the rows that belong to them. Next: comparison.py.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.dev.seed.store import NO_PASSWORD, SESSION_AHEAD_DAYS
from deploy.dev.simulation.persons import Coach, Crowd, Person
from deploy.dev.simulation.rows import Booking, Dispute, Letter, Matter, Payment, Refund, Rows, Waiting
from shared import clock
from shared.db import tables
from shared.db.engine import rows

MAIL_DOMAIN = "simulation.example"  # belongs to nobody (RFC 2606)

BOOKINGS = "select id::text, status::text, payment_id::text from bookings where id = any($1::uuid[])"
PAYMENTS = """
select id::text, booking_id::text, stripe_session_id, stripe_payment_intent_id, amount_minor, upper(currency), status::text,
       amount_refunded_minor
from payments where booking_id = any($1::uuid[])
"""
REFUNDS = "select r.id, r.payment_id::text, r.status, r.amount_minor from refunds r where r.payment_id = any($1::uuid[])"
DISPUTES = "select d.id, d.payment_id::text, d.status from disputes d where d.payment_id = any($1::uuid[])"
MATTERS = "select reason, aggregate from attention where aggregate = any($1::text[]) and resolved_at is null"
LETTERS = """
select booking_id::text, kind, role, cause, state, coalesce(reason, ''), message_id, possible_duplicates
from letters where booking_id = any($1::uuid[])
"""
WAITING = "select event_id, object_key from waiting_events where object_key = any($1::text[])"
LETTERS_UNDER_WAY = """
select count(*) from letters where booking_id = any($1::uuid[]) and state in ('queued', 'sending', 'retrying')
"""


@dataclass(frozen=True)
class Booked:
    """A person with the ids and addresses that this run gave them."""

    person: Person
    client_id: uuid.UUID
    booking_id: str
    client_email: str
    coach_email: str


async def book(engine: AsyncEngine, crowd: Crowd) -> tuple[Booked, ...]:
    """Add the crowd's people and a pending booking for each customer, under ids of this run's own."""
    run = uuid.uuid4().hex[:8]
    coach_ids = {coach.number: uuid.uuid4() for coach in crowd.coaches}
    booked = tuple(
        Booked(
            person,
            uuid.uuid4(),
            str(uuid.uuid4()),
            f"client-{person.number}.{run}@{MAIL_DOMAIN}",
            _coach_email(person.coach, run),
        )
        for person in crowd.persons
    )
    users = [_user(coach_ids[coach.number], _coach_email(coach, run), "coach") for coach in crowd.coaches]
    users += [_user(one.client_id, one.client_email, "client") for one in booked]
    coaches = [_coach(coach, coach_ids[coach.number]) for coach in crowd.coaches]
    clients = [_profile(one.client_id, one.person) | {"timezone": one.person.timezone} for one in booked]
    starts_at = (clock.now() + timedelta(days=SESSION_AHEAD_DAYS)).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    bookings = [_booking(one, coach_ids[one.person.coach.number], starts_at) for one in booked]
    written = (
        (tables.users, users),
        (tables.coach_profiles, coaches),
        (tables.client_profiles, clients),
        (tables.bookings, bookings),
    )
    async with engine.begin() as tx:
        for table, values in written:
            if values:
                await tx.execute(sa.insert(table), values)
    return booked


async def read(engine: AsyncEngine, bookings: Sequence[str], stripe_ids: Iterable[str]) -> Rows:
    """Return what our tables hold of these bookings, and of events that wait under these of Stripe's ids."""
    async with engine.connect() as tx:
        payments = tuple(Payment(*row) for row in await rows(tx, PAYMENTS, list(bookings)))
        ids = [payment.id for payment in payments]
        aggregates = [*(f"payment:{one}" for one in ids), *(f"booking:{one}" for one in bookings)]
        return Rows(
            bookings=tuple(Booking(*row) for row in await rows(tx, BOOKINGS, list(bookings))),
            payments=payments,
            refunds=tuple(Refund(*row) for row in await rows(tx, REFUNDS, ids)),
            disputes=tuple(Dispute(*row) for row in await rows(tx, DISPUTES, ids)),
            matters=tuple(Matter(*row) for row in await rows(tx, MATTERS, aggregates)),
            letters=tuple(Letter(*row) for row in await rows(tx, LETTERS, list(bookings))),
            waiting=tuple(Waiting(*row) for row in await rows(tx, WAITING, list(stripe_ids))),
        )


async def letters_under_way(engine: AsyncEngine, bookings: Sequence[str]) -> int:
    """Return how many letters of these bookings are neither sent nor given up yet."""
    async with engine.connect() as tx:
        [[count]] = await rows(tx, LETTERS_UNDER_WAY, list(bookings))
    return int(count)


def _coach_email(coach: Coach, run: str) -> str:
    return f"coach-{coach.number}.{run}@{MAIL_DOMAIN}"


def _user(user_id: uuid.UUID, email: str, role: str) -> dict[str, Any]:
    return {"id": user_id, "email": email, "password_hash": NO_PASSWORD, "role": role}


def _profile(user_id: uuid.UUID, named: Person | Coach) -> dict[str, Any]:
    return {"id": uuid.uuid4(), "user_id": user_id, "first_name": named.first_name, "last_name": named.last_name}


def _coach(coach: Coach, user_id: uuid.UUID) -> dict[str, Any]:
    rate = {"hourly_rate": coach.hourly_rate, "currency": coach.currency, "availability": {"timezone": coach.timezone}}
    return _profile(user_id, coach) | rate


def _booking(one: Booked, coach_id: uuid.UUID, starts_at: datetime) -> dict[str, Any]:
    return {
        "id": uuid.UUID(one.booking_id),
        "client_id": one.client_id,
        "coach_id": coach_id,
        "session_datetime": starts_at + timedelta(hours=one.person.number),
        "duration_minutes": one.person.minutes,
        "status": "pending",
    }
