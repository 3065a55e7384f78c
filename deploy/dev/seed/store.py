"""The SQL of the box: the people that a developer may be, and a booking that waits for its payment."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from deploy.dev.processes import stop_signals
from deploy.dev.seed.people import CLIENT, COACH, COACH_CURRENCY, COACH_HOURLY_RATE, PEOPLE
from shared import clock, settings
from shared.db import engine as engines
from shared.db import tables

SESSION_MINUTES = 60
SESSION_AHEAD_DAYS = 7
# A password nobody has: people of the box sign in by `cb-dev token`.
NO_PASSWORD = "!"  # noqa: S105 - no password at all
# What a database that is away or on its way down says.
TROUBLE = (SQLAlchemyError, OSError)


async def seed(database: settings.Database) -> None:
    """Make sure that the people and a booking to pay for exist; a second call changes nothing."""
    async with _connection(database) as tx:
        await _people(tx)
        await _payable(tx)


async def a_payable_booking(database: settings.Database) -> uuid.UUID:
    """Return a pending booking of the client in the future; create one when there is none."""
    async with _connection(database) as tx:
        return await _payable(tx)


def to_pay_for(database: settings.Database) -> str:
    """Return in words what a person can pay for, or that the database does not answer."""
    try:
        return f"booking {stop_signals.run(a_payable_booking(database))}"
    except TROUBLE as error:
        return f"nothing (the database does not answer: {type(error).__name__})"


async def a_new_booking(database: settings.Database) -> uuid.UUID:
    """Make another pending booking of the client with the coach, a week ahead; return its id."""
    async with _connection(database) as tx:
        return await _book(tx)


async def booking_status(database: settings.Database, booking_id: uuid.UUID) -> str | None:
    """Return the status of a booking's row, or None when there is no such row."""
    async with _connection(database) as tx:
        status: str | None = await tx.scalar(sa.select(tables.bookings.c.status).where(tables.bookings.c.id == booking_id))
    return status


@contextlib.asynccontextmanager
async def _connection(database: settings.Database) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(engines.DRIVER, poolclass=NullPool, connect_args={"dsn": engines.dsn(database)})
    try:
        async with engine.begin() as tx:
            yield tx
    finally:
        await engine.dispose()


async def _payable(tx: AsyncConnection) -> uuid.UUID:
    bookings, payments = tables.bookings, tables.payments
    found: uuid.UUID | None = await tx.scalar(
        sa.select(bookings.c.id)
        .where(bookings.c.client_id == CLIENT.id, bookings.c.status == "pending")
        .where(bookings.c.session_datetime > _naive(clock.now() + timedelta(hours=1)))
        .where(~sa.exists().where(payments.c.booking_id == bookings.c.id))
        .order_by(bookings.c.created_at.desc(), bookings.c.id)
        .limit(1)
    )
    return found or await _book(tx)


async def _book(tx: AsyncConnection) -> uuid.UUID:
    booking_id = uuid.uuid4()
    starts = (clock.now() + timedelta(days=SESSION_AHEAD_DAYS)).replace(minute=0, second=0, microsecond=0)
    await tx.execute(
        sa.insert(tables.bookings).values(
            id=booking_id,
            client_id=CLIENT.id,
            coach_id=COACH.id,
            session_datetime=_naive(starts),
            duration_minutes=SESSION_MINUTES,
            status="pending",
        )
    )
    return booking_id


async def _people(tx: AsyncConnection) -> None:
    for person in PEOPLE.values():
        user = {"id": person.id, "email": person.email, "password_hash": NO_PASSWORD, "role": person.role}
        await tx.execute(insert(tables.users).values(user).on_conflict_do_nothing())
    for table, person in ((tables.client_profiles, CLIENT), (tables.coach_profiles, COACH)):
        profile = {
            "id": person.id,
            "user_id": person.id,
            "first_name": person.first_name,
            "last_name": person.last_name,
        }
        await tx.execute(insert(table).values(profile).on_conflict_do_nothing())
    await tx.execute(
        sa.update(tables.client_profiles).where(tables.client_profiles.c.user_id == CLIENT.id).values(timezone=CLIENT.timezone)
    )
    await tx.execute(
        sa.update(tables.coach_profiles)
        .where(tables.coach_profiles.c.user_id == COACH.id)
        .values(hourly_rate=COACH_HOURLY_RATE, currency=COACH_CURRENCY, availability={"timezone": COACH.timezone})
    )


def _naive(moment: datetime) -> datetime:
    """CultureBridge keeps session times without a zone, in UTC."""
    return moment.replace(tzinfo=None)
