"""What the ledger of letters says about sending one now; pure.

Enters: a letter's row as it stands under its lock, and what the record at hand claims. Leaves: one of five outcomes.
"""

import uuid
from dataclasses import dataclass
from enum import StrEnum

from shared import messages
from shared.domain import booking

CONFIRMATION = "confirmation"


class State(StrEnum):
    """Where a letter stands. sent, suppressed and dead are ends; only a replay claims a dead one."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    SENT = "sent"
    SUPPRESSED = "suppressed"
    DEAD = "dead"


class Suppression(StrEnum):
    """Why a letter that was due is not sent."""

    CANCELLED_FIRST = "cancelled_before_sent"


@dataclass(frozen=True, slots=True)
class NewLetter:
    """One letter that a booking's change makes due."""

    id: uuid.UUID
    booking_id: uuid.UUID
    kind: str
    role: str
    payment_id: uuid.UUID
    amount_minor: int
    currency: str
    message_id: str

    @property
    def ticket(self) -> messages.LetterTicket:
        """What stands for this letter in Kafka."""
        return messages.LetterTicket(self.id, self.booking_id, self.kind, self.role)


@dataclass(frozen=True, slots=True)
class Standing:
    """A letter's row, as far as sending it matters. `lease_over`: nobody holds it, by the database's clock."""

    state: State
    attempts: int
    lease_over: bool
    last_answer: str | None
    booking_status: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """It is ours to send. `maybe_sent`: an earlier sender may have handed it over without recording it."""

    maybe_sent: bool


@dataclass(frozen=True, slots=True)
class Suppress:
    """It must not be sent any more."""

    reason: Suppression


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else holds its lease: look again in a second."""


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is left to do for this record; `why` is for the log."""

    why: str


Judgement = Claim | Suppress | Busy | Over


def confirmations(change: messages.BookingChange, *, sender_domain: str) -> tuple[NewLetter, NewLetter]:
    """Return the two letters of a confirmed booking; their ids follow from the booking, so a repeat is the same letter."""
    client, coach = (_new(change, CONFIRMATION, role, cause="", sender_domain=sender_domain) for role in ("client", "coach"))
    return client, coach


def judge(letter: Standing, *, attempt: int, replayed: bool) -> Judgement:
    """Say what to do with a record about `letter` that knows of `attempt` attempts so far."""
    match letter.state:
        case State.SENT:
            return Over("already_sent")
        case State.SUPPRESSED:
            return Over("already_suppressed")
        case State.DEAD if not replayed:
            return Over("already_dead")
        case State.SENDING if not letter.lease_over:
            return Busy()
        case _ if attempt < letter.attempts and not replayed:
            return Over("stale")
        case _ if letter.booking_status == booking.Status.CANCELLED:
            return Suppress(Suppression.CANCELLED_FIRST)
        case State.SENDING:
            return Claim(maybe_sent=True)
        case State.DEAD:
            return Claim(maybe_sent=letter.last_answer == "connection_lost_after_dot")
        case State.QUEUED | State.RETRYING:
            return Claim(maybe_sent=False)


def _new(change: messages.BookingChange, kind: str, role: str, *, cause: str, sender_domain: str) -> NewLetter:
    letter_id = uuid.uuid5(messages.NAMESPACE, f"letter/{change.booking_id}/{kind}/{role}/{cause}")
    return NewLetter(
        id=letter_id,
        booking_id=change.booking_id,
        kind=kind,
        role=role,
        payment_id=change.payment_id,
        amount_minor=change.amount_minor,
        currency=change.currency.upper(),
        message_id=f"<{letter_id}@{sender_domain}>",
    )
