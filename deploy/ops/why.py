"""Find what an id belongs to, and read everything that is known about it.

Enters: a connection, and an id of ours or of Stripe's. Leaves: a Story; every query uses an index. After 45 days the inbox's
part is missing from the story, its outcome is not: rows and ledger stay. Next: explanation.py.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops import matters
from deploy.ops.errors import NotFound
from deploy.ops.story import Booking, BookingChange, Dispute, Letter, Line, Payment, Refund, Story, Waiting
from shared import messages, topics
from shared.db import inbox
from shared.db.engine import rows
from shared.domain import money
from shared.domain.payment import Status

BOOKING_OF_PAYMENT = "select booking_id from payments where id = any($1::uuid[])"
PAYMENT_OF_CHARGE = ("select payment_id from payment_charges where charge_id = $1",)
PAYMENT_OF_REFUND = ("select payment_id from refunds where id = $1",)
PAYMENT_OF = {
    "pi": (
        "select payment_id from payment_intents where intent_id = $1",
        "select id from payments where stripe_payment_intent_id = $1",
    ),
    "cs": ("select id from payments where stripe_session_id = $1",),
    "ch": PAYMENT_OF_CHARGE,
    "py": PAYMENT_OF_CHARGE,
    "re": PAYMENT_OF_REFUND,
    "pyr": PAYMENT_OF_REFUND,
    "dp": ("select payment_id from disputes where id = $1",),
    "du": ("select payment_id from disputes where id = $1",),
    "evt": ("select payment_id from payment_ledger where event_id = $1 and payment_id is not null",),
}
# PostgreSQL keeps years that Python does not know: they are shown as the last day that it knows, or as the first.
BOOKING = """
select id, status::text, payment_id, greatest('0001-01-01', least(session_datetime, '9999-12-31')) from bookings where id = $1
"""
PAYMENTS = """
select id, status::text, amount_minor, amount_refunded_minor, upper(currency), version, failure_reason, closed_reason,
       closed_at is null, stripe_session_id, stripe_payment_intent_id, created_at, expires_at, amount
from payments where booking_id = $1 order by created_at, id
"""
REFUNDS = "select id, payment_id, status, amount_minor from refunds where payment_id = any($1::uuid[]) order by id"
DISPUTES = "select id, payment_id, status from disputes where payment_id = any($1::uuid[]) order by id"
INTENTS = "select intent_id from payment_intents where payment_id = any($1::uuid[])"
# By event, since a duplicate and a wait name no payment.
LINES = """
select l.recorded_at, l.event_id, l.event_type, l.event_created, l.payment_id, l.decision, l.reason, l.state_before,
       l.state_after, l.topic, l."partition", l."offset", l.fact
from (
    select event_id from payment_ledger where payment_id = any($1::uuid[])
    union
    select unnest($2::text[])
) told
join payment_ledger l on l.event_id = told.event_id
order by l.recorded_at, l.id
"""
WAITING = """
select w.event_id, l.event_type, w.object_key, w.seen_at, w.state
from waiting_events w left join payment_ledger l on l.event_id = w.event_id and l.decision = 'waiting'
where w.object_key = any($1::text[]) or w.event_id = any($2::text[])
order by w.seen_at, w.event_id
"""
LETTERS = """
select kind, role, state, reason, attempts, last_answer, possible_duplicates, queued_at, updated_at, sent_at
from letters where booking_id = $1 order by queued_at, kind desc, role
"""


async def story(tx: AsyncConnection, asked: str) -> Story:
    """Return the story of a booking or payment (its uuid), or of what a Stripe id belongs to.

    `pi_`, `cs_`, `ch_`, `re_`, `py_` and `pyr_` (charges and refunds of bank debits), `dp_`, `du_` and `evt_` are known. Raises
    NotFound.
    """
    booking_id = await _booking_of(tx, asked)
    if booking_id is not None:
        return await _of_booking(tx, asked, booking_id)
    waiting = await _waiting(tx, [asked], [asked])
    lines = await _lines(tx, [], [asked, *(event.event_id for event in waiting)])
    if not lines and not waiting:
        raise NotFound(f"nothing is known about {asked}; {_elsewhere(asked)}")
    about = await matters.about(tx, [f"stripe:{key}" for key in {event.key for event in waiting}])
    return Story(asked, lines=lines, waiting=waiting, matters=tuple(about))


def _elsewhere(asked: str) -> str:
    """Say where else an unknown id may be found.

    The ledger names an event, and the payment of those that were believed; what waits is kept by the intent that it names.
    """
    match asked.partition("_")[0]:
        case "evt":
            look = f"cb-ops dlt list {topics.STRIPE_EVENTS_DLT.name} --id {asked}"
            return f"what could not be read lies among the dead letters: {look}"
        case "pi":
            return "ask by its event (evt_)"
        case _:
            return "ask by its event (evt_) or its payment intent (pi_)"


async def _booking_of(tx: AsyncConnection, asked: str) -> uuid.UUID | None:
    try:
        asked_id = uuid.UUID(asked)
    except ValueError:
        questions = PAYMENT_OF.get(asked.partition("_")[0], ())
        payments = [row[0] for question in questions for row in await rows(tx, question, asked)]
    else:
        if await rows(tx, BOOKING, asked_id):
            return asked_id
        payments = [asked_id]
    found = await rows(tx, BOOKING_OF_PAYMENT, payments)
    return found[0][0] if found else None


async def _of_booking(tx: AsyncConnection, asked: str, booking_id: uuid.UUID) -> Story:
    [booking] = await rows(tx, BOOKING, booking_id)
    payments = tuple(_payment(row) for row in await rows(tx, PAYMENTS, booking_id))
    ids = [payment.id for payment in payments]
    keys = {row[0] for row in await rows(tx, INTENTS, ids)}
    keys |= {key for payment in payments for key in (payment.session_id, payment.intent_id) if key is not None}
    lines = await _lines(tx, ids, [])
    waiting = await _waiting(tx, keys, [line.event_id for line in lines])
    lines = await _lines(tx, ids, [event.event_id for event in waiting])
    aggregates = [f"booking:{booking_id}", *(f"payment:{i}" for i in ids), *(f"stripe:{key}" for key in keys)]
    return Story(
        asked,
        booking=Booking(booking[0], booking[1], booking[2], booking[3].replace(tzinfo=UTC)),
        payments=payments,
        refunds=tuple(Refund(*row) for row in await rows(tx, REFUNDS, ids)),
        disputes=tuple(Dispute(*row) for row in await rows(tx, DISPUTES, ids)),
        lines=lines,
        changes=await _changes(tx, booking_id, lines),
        letters=tuple(Letter(*row) for row in await rows(tx, LETTERS, booking_id)),
        matters=tuple(await matters.about(tx, aggregates)),
        waiting=waiting,
    )


def _payment(row: Any) -> Payment:
    *facts, amount = row
    if facts[2] is None:  # a row of the older application that no event has touched yet
        facts[2] = money.nearest_minor(amount, facts[4])
        facts[3] = facts[2] if facts[1] == Status.REFUNDED else 0
    facts[11] = facts[11].replace(tzinfo=UTC)
    return Payment(*facts)


async def _lines(tx: AsyncConnection, payments: Sequence[uuid.UUID], events: Sequence[str]) -> tuple[Line, ...]:
    found = await rows(tx, LINES, list(payments), list(events))
    return tuple(Line(*row) for row in found)


async def _waiting(tx: AsyncConnection, keys: Iterable[str], events: Sequence[str]) -> tuple[Waiting, ...]:
    return tuple(Waiting(*row) for row in await rows(tx, WAITING, list(keys), list(events)))


async def _changes(tx: AsyncConnection, booking_id: uuid.UUID, lines: Iterable[Line]) -> tuple[BookingChange, ...]:
    """Follow the inboxes: what the payments' events caused, and what the bookings consumer made of that."""
    taken = {(line.event_created, line.event_id) for line in lines if line.event_created is not None}
    told = [messages.payment_states.decode(event) for event in await _emitted(tx, "payments", taken)]
    caused = await _emitted(tx, "bookings", ((event.time, str(event.id)) for event in told))
    changes = [messages.booking_changes.decode(event) for event in caused]
    return tuple(
        BookingChange(change.time, change.name, change.data.payment_id, change.data.reason)
        for change in sorted(changes, key=lambda change: change.data.version)
        if change.data.booking_id == booking_id
    )


async def _emitted(tx: AsyncConnection, consumer: str, events: Iterable[tuple[datetime, str]]) -> list[bytes]:
    entries = await inbox.known(tx, consumer, events)
    return [event for entry in entries.values() for event in entry.emitted]
