"""The story of a batch of payments' changes: judge, load under locks, let each booking follow, save.

Enters: records of `payments.events`; decides from `data` and its version, never from the type, so that swapped or repeated
messages end right. Leaves: rows, and `bookings.events`. Next in the walk: shared/domain/booking.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.bookings import store
from consumers.bookings.store import Remembered
from shared import clock, logs, messages, metrics
from shared.db.data_errors import folding
from shared.db.inbox import Entry
from shared.domain import booking
from shared.domain.booking import Booking, Cancel, Confirm, Known, Leave, RaiseConflict, Status
from shared.kafka.batch import Applied, Emitted
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming

log = logs.get(__name__)

PAID_AFTER_SESSION = "paid_after_session"


@dataclass(frozen=True, slots=True)
class Item:
    """A payment's change and the record that brought it."""

    event: messages.Envelope[messages.PaymentState]
    record: Incoming


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a booking, for the log once it stands."""

    name: str
    booking_id: str
    payment_id: str
    reason: str | None


class Bookings:
    """The bookings consumer's part of what shared/kafka/batch.py does with a batch."""

    def judge(self, record: Incoming) -> Item | Refused:
        """Return the record's event, or why it is none."""
        try:
            return Item(messages.payment_states.decode(record.value), record)
        except msgspec.ValidationError as error:
            return Refused(record, f"wrong_shape:{error}")
        except messages.DECODING_ERRORS:
            return Refused(record, "not_json")

    async def apply(self, tx: AsyncConnection, items: Sequence[Item]) -> Applied:
        """Load, decide, save. Raises whatever PostgreSQL does, and FoldBroken when a message breaks the decision."""
        events = [(item.event.time, str(item.event.id)) for item in items]
        remembered = await store.load(tx, (str(item.event.data.booking_id) for item in items), events)
        applied = Applied()
        told: list[Told] = []
        with folding():
            for item in items:
                _take(remembered, item, applied, told, at=clock.now())
        await store.save(tx, remembered)
        applied.after_commit.append(lambda: _tell(told))
        return applied

    async def note_culprit(self, tx: AsyncConnection, item: Item, reason: str) -> None:
        """Write nothing: `cb-ops why` points to its dead letter for a booking that did not follow its payment."""


def _take(remembered: Remembered, item: Item, applied: Applied, told: list[Told], *, at: datetime) -> None:
    event_id, data = str(item.event.id), item.event.data
    if event_id in remembered.entries:
        return
    if event_id in remembered.known:
        # Whoever wrote the entry may have died before it could publish.
        applied.emitted += [Emitted(event, item.record) for event in remembered.known[event_id].emitted]
        return
    found = remembered.bookings.get(str(data.booking_id))
    if found is None:
        applied.refused.append(Refused(item.record, "no_such_booking"))
        return
    emitted = _follow(remembered, found, item.event, told, at=at)
    applied.emitted += [Emitted(event, item.record) for event in emitted]
    place = (item.record.topic, item.record.partition, item.record.offset)
    remembered.entries[event_id] = Entry(event_id, item.event.time, *place, emitted)


def _follow(
    remembered: Remembered,
    found: Booking,
    event: messages.Envelope[messages.PaymentState],
    told: list[Told],
    *,
    at: datetime,
) -> tuple[bytes, ...]:
    data = event.data
    payment_id = str(data.payment_id)
    others = remembered.payments.setdefault(found.id, {})
    before = others.get(payment_id)
    if before is not None and data.version <= before.version:
        return ()
    now = Known(payment_id, data.version, data.paid, data.cancel_due)
    another_is_paid = any(known.paid and not known.cancel_due for known in others.values() if known.payment_id != payment_id)
    outcome = booking.follow(found, before, now, another_is_paid=another_is_paid)
    others[payment_id] = booking.noted(before, now, outcome)
    remembered.changed_payments.add((found.id, payment_id))
    name, reason = _written(remembered, found, payment_id, outcome)
    if name is None:
        return ()
    told.append(Told(name, found.id, payment_id, reason))
    change = messages.BookingChange(
        booking_id=data.booking_id,
        version=remembered.next_version(found.id),
        payment_id=data.payment_id,
        status=str(remembered.bookings[found.id].status),
        reason=reason,
        amount_minor=data.amount_minor,
        currency=data.currency,
        confirmed_elsewhere=isinstance(outcome, Cancel) and outcome.confirmed_elsewhere,
    )
    return (messages.booking_event(name, change, cause=str(event.id), at=at),)


def _written(
    remembered: Remembered, found: Booking, payment_id: str, outcome: booking.Outcome
) -> tuple[str | None, str | None]:
    """Put an outcome into what will be saved; return the name and the reason under which it is announced, if it is."""
    match outcome:
        case Confirm(after_session=after_session):
            if after_session:
                remembered.attention.append((PAID_AFTER_SESSION, found.id, payment_id))
            remembered.bookings[found.id] = replace(found, status=Status.CONFIRMED, payment_id=payment_id)
            remembered.changed_bookings.add(found.id)
            return "booking.confirmed", None
        case Cancel():
            remembered.bookings[found.id] = replace(found, status=Status.CANCELLED)
            remembered.changed_bookings.add(found.id)
            return "booking.cancelled", "refunded"
        case RaiseConflict(reason=reason):
            remembered.attention.append((f"payment_conflict:{reason}", found.id, payment_id))
            return "booking.payment_conflict", str(reason)
        case Leave():
            return None, None
        case _ as never:
            assert_never(never)


def _tell(told: Sequence[Told]) -> None:
    for change in told:
        metrics.bookings_changed.labels(change.name).inc()
        log.info(
            "booking.changed",
            outcome=change.name,
            booking_id=change.booking_id,
            payment_id=change.payment_id,
            reason=change.reason,
        )
