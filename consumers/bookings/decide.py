"""What a batch of payments' changes does to their bookings; pure, message by message in batch order.

Enters: what the store loaded under locks, and the batch. Leaves: everything to write, to publish and to log. A refused
message changes nothing and gets no inbox row, so that its replay is never taken for a duplicate. What one message does to one
booking is decided in shared/domain/booking.py. Next: store.py writes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

import msgspec

from shared import messages
from shared.db.inbox import Entry
from shared.domain import booking
from shared.domain.booking import Booking, Cancel, Confirm, NoChange, PaymentSnapshot, RaiseConflict, Status
from shared.domain.matter import Matter
from shared.kafka.batch import Emitted
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming


class PaymentMessage(msgspec.Struct, frozen=True):
    """A payment's change and the record that brought it."""

    event: messages.Envelope[messages.PaymentState]
    record: Incoming


class ChangeReport(msgspec.Struct, frozen=True):
    """What became of a booking, for the log and the metrics after the commit."""

    name: str
    booking_id: str
    payment_id: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What the database holds, read under locks: bookings by id, the payments of each by their ids, inbox entries.

    `versions` are the numbers of the last event emitted about each booking.
    """

    bookings: Mapping[str, Booking]
    payments: Mapping[str, Mapping[str, PaymentSnapshot]]
    versions: Mapping[str, int]
    known: Mapping[str, Entry]


@dataclass(slots=True)
class BatchDecision:
    """What to write in this transaction, and to publish and log after it.

    `versions` go on from those that were loaded; `payments` are by booking and payment.
    """

    versions: dict[str, int]
    bookings: dict[str, Booking] = field(default_factory=dict)
    payments: dict[tuple[str, str], PaymentSnapshot] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    attention: list[Matter] = field(default_factory=list)
    reports: list[ChangeReport] = field(default_factory=list)
    emitted: list[Emitted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def matters_of_refused(item: PaymentMessage, reason: str) -> tuple[Matter, ...]:
    """Return the matter that a refused message opens, if money moved: its dead letter is deleted after a month."""
    payment = item.event.data
    if not (payment.paid or payment.cancel_due):
        return ()
    return (Matter(f"booking_not_followed:{reason}", f"payment:{payment.payment_id}", str(item.event.id)),)


def decide(loaded: LoadedState, items: Iterable[PaymentMessage], *, at: datetime) -> BatchDecision:
    """Let each booking follow its payments; `at` becomes the time of the events that a batch emits."""
    batch = _Batch(loaded, at)
    for item in items:
        batch.take(item)
    return batch.decided


class _Batch:
    """The state that grows while a batch is decided."""

    def __init__(self, loaded: LoadedState, at: datetime) -> None:
        self.decided = BatchDecision(versions=dict(loaded.versions))
        self._loaded = loaded
        self._payments = {booking_id: dict(known) for booking_id, known in loaded.payments.items()}
        self._at = at

    def take(self, item: PaymentMessage) -> None:
        """Decide about one message of the batch."""
        event_id, booking_id = str(item.event.id), str(item.event.data.booking_id)
        if event_id in self.decided.entries:
            return
        if event_id in self._loaded.known:
            # The process that wrote the entry may have died before it could publish.
            self._emit(item, self._loaded.known[event_id].emitted)
            return
        found = self.decided.bookings.get(booking_id) or self._loaded.bookings.get(booking_id)
        if found is None:
            refused = Refused(item.record, "no_such_booking")
            self.decided.refused.append(refused)
            self.decided.attention += matters_of_refused(item, refused.reason)
            return
        emitted = self._follow(found, item.event)
        place = (item.record.topic, item.record.partition, item.record.offset)
        self.decided.entries[event_id] = Entry(event_id, item.event.time, *place, emitted)
        self._emit(item, emitted)

    def _emit(self, item: PaymentMessage, events: Iterable[bytes]) -> None:
        self.decided.emitted += [Emitted(event, item.record) for event in events]

    def _follow(self, found: Booking, event: messages.Envelope[messages.PaymentState]) -> tuple[bytes, ...]:
        """Let a booking follow a message of one payment; return the event to emit, if anything became of it."""
        data = event.data
        payment_id = str(data.payment_id)
        payments = self._payments.setdefault(found.id, {})
        before = payments.get(payment_id)
        if before is not None and data.version <= before.version:
            return ()
        now = PaymentSnapshot(payment_id, data.version, data.paid, data.cancel_due)
        others = (known for known in payments.values() if known.payment_id != payment_id)
        another_is_paid = any(known.paid and not known.cancel_due for known in others)
        outcome = booking.follow(found, before, now, another_is_paid=another_is_paid)
        payments[payment_id] = self.decided.payments[found.id, payment_id] = booking.snapshot_after(before, now, outcome)
        match outcome:
            case Confirm(after_session=after_session):
                if after_session:
                    self.decided.attention.append(_matter("paid_after_session", now, found))
                held = self.decided.bookings[found.id] = replace(found, status=Status.CONFIRMED, payment_id=payment_id)
                return self._change_event(event, held, "booking.confirmed")
            case Cancel(confirmed_elsewhere=elsewhere):
                cancelled = self.decided.bookings[found.id] = replace(found, status=Status.CANCELLED)
                return self._change_event(
                    event, cancelled, "booking.cancelled", reason="refunded", confirmed_elsewhere=elsewhere
                )
            case RaiseConflict(reason=reason):
                self.decided.attention.append(_matter(f"payment_conflict:{reason}", now, found))
                return self._change_event(event, found, "booking.payment_conflict", reason=str(reason))
            case NoChange():
                return ()
            case _ as never:
                assert_never(never)

    def _change_event(
        self,
        event: messages.Envelope[messages.PaymentState],
        now: Booking,
        name: str,
        *,
        reason: str | None = None,
        confirmed_elsewhere: bool = False,
    ) -> tuple[bytes, ...]:
        """Count one more change of a booking, and return its event: the booking as it is now, because of which payment."""
        data = event.data
        version = self.decided.versions[now.id] = self.decided.versions.get(now.id, 0) + 1
        change = messages.BookingChange(
            booking_id=data.booking_id,
            version=version,
            payment_id=data.payment_id,
            status=str(now.status),
            reason=reason,
            amount_minor=data.amount_minor,
            currency=data.currency,
            confirmed_elsewhere=confirmed_elsewhere,
        )
        self.decided.reports.append(ChangeReport(name, now.id, str(data.payment_id), reason))
        return (messages.booking_event(name, change, cause=str(event.id), at=self._at),)


def _matter(reason: str, payment: PaymentSnapshot, found: Booking) -> Matter:
    return Matter(reason, f"booking:{found.id}", f"payment:{payment.payment_id}")
