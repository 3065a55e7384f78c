"""What becomes of a booking when one of its payments changed; pure.

Enters: the booking as it is, what was known of the payment before, what its message says now. Leaves: one of four outcomes. Why
a refund in part cancels nothing, and late money confirms nothing: docs/decisions.md, "Money and bookings".
Next in the walk: consumers/email/handlers.py, which reads `bookings.events`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Status(StrEnum):
    """The labels of CultureBridge's enum type `bookingstatus`."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Conflict(StrEnum):
    """Why money that arrived confirms nothing."""

    CANCELLED = "cancelled"
    COMPLETED = "completed"
    ALREADY_PAID = "already_paid"


@dataclass(frozen=True, slots=True)
class Booking:
    """One row of `bookings`, as far as payments matter. `payment_id` is the payment that holds it, if any does.

    `over`: its session has ended by the clock, whether or not anybody completed it.
    """

    id: str
    status: Status
    payment_id: str | None
    over: bool = False


@dataclass(frozen=True, slots=True)
class PaymentSnapshot:
    """What the messages said of one payment so far (one row of `booking_payments`), and what came of it.

    `conflict_reason`: a Conflict, or a word of a newer release, which runs beside this one or was rolled back: nothing here is
    decided by it, and it stays as it was written. `cancelled_booking`: whether its full refund cancelled the booking; None
    before there was one.
    """

    payment_id: str
    version: int
    paid: bool
    cancel_due: bool
    conflict_reason: str | None = None
    cancelled_booking: bool | None = None


@dataclass(frozen=True, slots=True)
class Confirm:
    """The booking is paid and held by this payment from now on.

    `after_session`: the money came when the session was over, by a bank debit that took its two weeks or on a page that was
    left open; a person decides whether to refund it.
    """

    after_session: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """The payment that holds the booking was fully refunded.

    `confirmed_elsewhere`: the booking was confirmed and names no payment. This pipeline names one when it confirms, so it was
    the older application that confirmed it, and notified its client and its coach.
    """

    confirmed_elsewhere: bool


@dataclass(frozen=True, slots=True)
class RaiseConflict:
    """The money is real, but the booking cannot take it; a person decides."""

    reason: Conflict


@dataclass(frozen=True, slots=True)
class NoChange:
    """Nothing follows; `why` is for the log."""

    why: str


Outcome = Confirm | Cancel | RaiseConflict | NoChange


def follow(booking: Booking, before: PaymentSnapshot | None, now: PaymentSnapshot, *, another_is_paid: bool) -> Outcome:
    """Decide what `booking` does about a newer message of one payment.

    `before` is what was known of that payment until now; `another_is_paid` whether another payment of the booking is paid
    and was not fully given back: then that one holds a booking which names none (the older application named none).
    """
    if now.cancel_due:
        return _give_back(booking, now, another_is_paid=another_is_paid)
    if not now.paid or (before is not None and before.paid):
        return NoChange("paid is judged once, in the message that turns it true")
    match booking.status:
        case Status.PENDING:
            return Confirm(after_session=booking.over)
        case Status.CONFIRMED if booking.payment_id is None and not another_is_paid:
            return Confirm()
        case Status.CONFIRMED if booking.payment_id == now.payment_id:
            return NoChange("this payment holds the booking already")
        case Status.CONFIRMED:
            return RaiseConflict(Conflict.ALREADY_PAID)
        case Status.CANCELLED:
            return RaiseConflict(Conflict.CANCELLED)
        case Status.COMPLETED:
            return RaiseConflict(Conflict.COMPLETED)


def snapshot_after(before: PaymentSnapshot | None, now: PaymentSnapshot, outcome: Outcome) -> PaymentSnapshot:
    """Return what is known of a payment once the booking followed; what came of an earlier message stays known."""
    conflict = before.conflict_reason if before else None
    cancelled = before.cancelled_booking if before else None
    if isinstance(outcome, RaiseConflict):
        conflict = outcome.reason
    if now.cancel_due and not (before and before.cancel_due):
        cancelled = isinstance(outcome, Cancel)
    return replace(now, conflict_reason=conflict, cancelled_booking=cancelled)


def _give_back(booking: Booking, now: PaymentSnapshot, *, another_is_paid: bool) -> Outcome:
    holds = booking.payment_id == now.payment_id or (booking.payment_id is None and not another_is_paid)
    if holds and booking.status in {Status.PENDING, Status.CONFIRMED}:
        return Cancel(confirmed_elsewhere=booking.status is Status.CONFIRMED and booking.payment_id is None)
    return NoChange("a full refund of a payment that does not hold the booking, or of one that ended")
