"""Rows as checkout and the older application left them, many at once: two people share every booking."""

from datetime import UTC, datetime

from shared.db.engine import driver, rows
from shared.domain import money
from tests.support.builders import SESSION_AT

CLIENT_ID = "10000000-0000-4000-8000-000000000001"
COACH_ID = "10000000-0000-4000-8000-000000000002"
CLOSED_AT = datetime(2026, 11, 1, tzinfo=UTC)
PAYMENT_COLUMNS = (
    "id",
    "booking_id",
    "amount",
    "currency",
    "amount_minor",
    "status",
    "stripe_session_id",
    "stripe_payment_intent_id",
    "closed_at",
)


async def people(engine):
    """The client and the coach of all bookings."""
    async with engine.begin() as tx:
        for person, role in ((CLIENT_ID, "client"), (COACH_ID, "coach")):
            await rows(
                tx,
                "insert into users (id, email, password_hash, role) values ($1, $2, 'x', $3::text::userrole)",
                person,
                f"{role}@example.com",
                role,
            )
            await rows(
                tx, f"insert into {role}_profiles (id, user_id, first_name, last_name) values ($1, $1, 'Ada', 'Hopper')", person
            )


async def bookings(engine, made):
    """Write bookings, told as tests/oracle.py tells them."""
    async with engine.begin() as tx:
        await rows(tx, "select 1")
        connection = driver(tx)
        await connection.copy_records_to_table(
            "bookings",
            records=[(b.booking_id, CLIENT_ID, COACH_ID, SESSION_AT, b.status, b.payment_id) for b in made],
            columns=("id", "client_id", "coach_id", "session_datetime", "status", "payment_id"),
        )


async def payments(engine, made):
    """Write payments, told as tests/oracle.py tells them; the migration's memory of what was settled before is written too."""
    settled = [
        (row.payment_id, row.booking_id, 0, True, row.older_status == "refunded")
        for row in made
        if row.older_status in {"succeeded", "refunded"}
    ]
    async with engine.begin() as tx:
        await rows(tx, "select 1")
        connection = driver(tx)
        await connection.copy_records_to_table("payments", records=[_payment(row) for row in made], columns=PAYMENT_COLUMNS)
        await connection.copy_records_to_table(
            "booking_payments", records=settled, columns=("payment_id", "booking_id", "version", "paid", "cancel_due")
        )


def _payment(row):
    is_older = row.older_status is not None
    return (
        row.payment_id,
        row.booking_id,
        money.to_decimal(row.amount_minor, row.currency),
        row.currency,
        None if is_older else row.amount_minor,
        row.older_status or "pending",
        row.session_id,
        row.intent_id,
        CLOSED_AT if row.closed_by_checkout else None,
    )
