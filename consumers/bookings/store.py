"""The SQL of bookings: they are locked by id, then read together with what the contract told before."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.bookings.decide import BatchDecision, LoadedState, PaymentMessage
from shared.db import attention, inbox
from shared.db.data_errors import folding
from shared.db.engine import columns, rows
from shared.domain.booking import Booking, PaymentSnapshot, Status
from shared.domain.matter import Matter

CONSUMER = "bookings"

# Its times are naive and meant as UTC. The duration is taken from now, since PostgreSQL keeps times to which none can be added.
LOCK_BOOKINGS = """
select id::text, status::text, payment_id::text,
       coalesce(session_datetime < now() at time zone 'utc' - make_interval(mins => duration_minutes), false)
from bookings where id = any($1::uuid[]) order by id for no key update
"""
KNOWN_PAYMENTS = """
select booking_id::text, payment_id::text, version, paid, cancel_due, conflict_reason, cancelled_booking
from booking_payments where booking_id = any($1::uuid[])
"""
VERSIONS = "select booking_id::text, version from booking_versions where booking_id = any($1::uuid[])"
# Its clock is that of the moment: now() is when the transaction began, perhaps before one that had the row first.
UPDATE_BOOKINGS = """
update bookings b
set status = u.status::bookingstatus, payment_id = u.payment_id, updated_at = clock_timestamp() at time zone 'utc'
from unnest($1::uuid[], $2::text[], $3::uuid[]) as u (id, status, payment_id) where b.id = u.id
"""
UPSERT_PAYMENTS = """
insert into booking_payments (payment_id, booking_id, version, paid, cancel_due, conflict_reason, cancelled_booking)
select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bool[], $5::bool[], $6::text[], $7::bool[])
on conflict (payment_id) do update
set version = excluded.version, paid = excluded.paid, cancel_due = excluded.cancel_due,
    conflict_reason = excluded.conflict_reason, cancelled_booking = excluded.cancelled_booking
"""
UPSERT_VERSIONS = """
insert into booking_versions (booking_id, version) select * from unnest($1::uuid[], $2::bigint[])
on conflict (booking_id) do update set version = excluded.version
"""


async def load(tx: AsyncConnection, items: Sequence[PaymentMessage]) -> LoadedState:
    """Lock the bookings that a batch touches, then read what is known of them and of the batch's events.

    Raises FoldBroken for a status that the booking service has and we do not: only the messages of its bookings are refused.
    """
    asked = sorted({str(item.event.data.booking_id) for item in items})
    locked = await rows(tx, LOCK_BOOKINGS, asked)
    with folding():
        found = {row[0]: Booking(row[0], Status(row[1]), *row[2:]) for row in locked}
    payments: dict[str, dict[str, PaymentSnapshot]] = defaultdict(dict)
    for booking_id, payment_id, *told in await rows(tx, KNOWN_PAYMENTS, asked):
        payments[booking_id][payment_id] = PaymentSnapshot(payment_id, *told)
    return LoadedState(
        bookings=found,
        payments=payments,
        versions={row[0]: row[1] for row in await rows(tx, VERSIONS, asked)},
        known=await inbox.known(tx, CONSUMER, [(item.event.time, str(item.event.id)) for item in items]),
    )


async def save(tx: AsyncConnection, decided: BatchDecision) -> None:
    """Write everything that was decided, in the transaction that loaded it."""
    changed = [decided.bookings[booking_id] for booking_id in sorted(decided.bookings)]
    if changed:
        await rows(tx, UPDATE_BOOKINGS, *columns((b.id, str(b.status), b.payment_id) for b in changed))
    payments = [(booking_id, decided.payments[booking_id, p]) for booking_id, p in sorted(decided.payments)]
    if payments:
        await rows(tx, UPSERT_PAYMENTS, *columns(_known_row(booking_id, known) for booking_id, known in payments))
    if decided.versions:
        await rows(tx, UPSERT_VERSIONS, *columns(decided.versions.items()))
    await open_matters(tx, decided.attention)
    await inbox.write(tx, CONSUMER, list(decided.entries.values()))


async def open_matters(tx: AsyncConnection, matters: Iterable[Matter]) -> None:
    """Open matters for a person, each once."""
    for matter in matters:
        await attention.open_(tx, reason=matter.reason, aggregate=matter.aggregate, cause=matter.cause)


def _known_row(booking_id: str, known: PaymentSnapshot) -> tuple[object, ...]:
    conflict = str(known.conflict_reason) if known.conflict_reason else None
    told = (known.version, known.paid, known.cancel_due)
    return (known.payment_id, booking_id, *told, conflict, known.cancelled_booking)
