"""An event -> the letters that it makes due, and those that it takes back; pure.

Enters: the bytes of one event of `bookings.events` or `payments.events`. Leaves: letters with ids that follow from what
they are about, so that a repeated event means the same letters. Whether a due letter is still true is asked again when it
is sent. Next: ledger.py.
"""

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum

from shared import messages
from shared.domain import payment

CURRENCY = re.compile(r"[A-Za-z]{3}")
REFUNDED = "refunded"  # why a booking was cancelled, in `bookings.events`


class Kind(StrEnum):
    """What a letter is about. Client and coach get the first two, the client alone the others."""

    CONFIRMATION = "confirmation"
    CANCELLATION = "cancellation"
    REFUND = "refund"
    PAYMENT_FAILED = "payment_failed"


class Suppression(StrEnum):
    """Why a letter that was due is not sent."""

    CANCELLED_FIRST = "cancelled_before_sent"
    CANCELLED_PERHAPS_SENT = "cancelled_perhaps_sent"  # the sender of the confirmation left no record of its result
    SENT_BY_OLDER_APPLICATION = "sent_by_older_application"  # a confirmation that went out before this pipeline came
    NEVER_CONFIRMED = "confirmation_not_sent"
    HOLDS_NO_BOOKING = "payment_holds_no_booking"  # a late or second payment: a person decides, no letter is sent
    SUPERSEDED = "superseded"  # more was refunded since, or a refund failed: the amount is not true any more
    CANCELLATION_TELLS = "cancellation_tells"  # the refund cancelled the booking: the cancellation names it
    PAID = "paid_after_all"


@dataclass(frozen=True, slots=True)
class NewLetter:
    """One letter of the ledger; `refunded_minor` is what went back of `amount_minor`, in a letter that names it."""

    id: uuid.UUID
    booking_id: uuid.UUID
    kind: Kind
    role: str
    cause: str
    payment_id: uuid.UUID
    amount_minor: int
    refunded_minor: int | None
    currency: str
    message_id: str

    @property
    def ticket(self) -> messages.LetterTicket:
        """The message that represents this letter in Kafka."""
        return messages.LetterTicket(self.id, self.booking_id, self.kind, self.role)


@dataclass(frozen=True, slots=True)
class Consequences:
    """What one event means for letters: those that it makes due, and those that are not to be sent, with the reason."""

    due: tuple[NewLetter, ...] = ()
    withheld: tuple[tuple[NewLetter, Suppression], ...] = ()


@dataclass(frozen=True, slots=True)
class Unusable:
    """An event that no letter can be made of; `reason` is a stable code."""

    reason: str


def of_booking(value: bytes, *, sender_domain: str) -> Consequences | Unusable:
    """Return what one event of `bookings.events` means; raises one of messages.DECODING_ERRORS.

    Only `booking.confirmed` makes the two confirmations. `booking.cancelled` takes them back and makes two cancellations,
    for those whose confirmation went out, ours or the older application's.
    """
    event = messages.booking_changes.decode(value)
    data = event.data
    if not CURRENCY.fullmatch(data.currency):
        return Unusable("bad_currency")

    def both(kind: Kind, refunded_minor: int | None = None) -> tuple[NewLetter, NewLetter]:
        client, coach = (
            _new(data, kind, role, refunded_minor=refunded_minor, sender_domain=sender_domain) for role in ("client", "coach")
        )
        return client, coach

    match event.name:
        case "booking.confirmed":
            return Consequences(due=both(Kind.CONFIRMATION))
        case "booking.cancelled":
            given_back = data.amount_minor if data.reason == REFUNDED else None
            why = Suppression.SENT_BY_OLDER_APPLICATION if data.confirmed_elsewhere else Suppression.CANCELLED_FIRST
            withheld = tuple((letter, why) for letter in both(Kind.CONFIRMATION))
            return Consequences(due=both(Kind.CANCELLATION, given_back), withheld=withheld)
        case _:
            return Consequences()


def of_payment(value: bytes, *, sender_domain: str) -> Consequences | Unusable:
    """Return what one event of `payments.events` means, from its state alone; raises as `of_booking` does.

    Each refunded amount of a payment makes one letter. A full refund comes with a cancellation, which names it; whether there
    is one (a booking that was cancelled or completed before has none) is known when the letter is to be sent. A delayed method
    that failed makes one letter; a customer whose card was declined saw that on the page.
    """
    data = messages.payment_states.decode(value).data
    if not CURRENCY.fullmatch(data.currency):
        return Unusable("bad_currency")
    in_part = 0 < data.amount_refunded_minor < data.amount_minor
    in_full = data.cancel_due and data.amount_refunded_minor == data.amount_minor
    if data.paid and (in_part or in_full):
        refunded = data.amount_refunded_minor
        cause = f"{data.payment_id}/{refunded}"
        letter = _new(data, Kind.REFUND, "client", cause=cause, refunded_minor=refunded, sender_domain=sender_domain)
        return Consequences(due=(letter,))
    if not data.paid and data.closed_reason == payment.ClosedReason.ASYNC_FAILED:
        cause = str(data.payment_id)
        return Consequences(due=(_new(data, Kind.PAYMENT_FAILED, "client", cause=cause, sender_domain=sender_domain),))
    return Consequences()


def _new(
    data: messages.BookingChange | messages.PaymentState,
    kind: Kind,
    role: str,
    *,
    cause: str = "",
    refunded_minor: int | None = None,
    sender_domain: str,
) -> NewLetter:
    letter_id = uuid.uuid5(messages.NAMESPACE, f"letter/{data.booking_id}/{kind}/{role}/{cause}")
    return NewLetter(
        id=letter_id,
        booking_id=data.booking_id,
        kind=kind,
        role=role,
        cause=cause,
        payment_id=data.payment_id,
        amount_minor=data.amount_minor,
        refunded_minor=refunded_minor,
        currency=data.currency.upper(),
        message_id=f"<{letter_id}@{sender_domain}>",
    )
