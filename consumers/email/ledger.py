"""Decides by the ledger whether a letter may be sent now; pure.

Enters: a letter's row, read under its lock, and the attempts that the record at hand counts. Leaves: one of five outcomes.
"""

from dataclasses import dataclass
from enum import StrEnum

from consumers.email.kinds import Kind, Suppression
from shared.domain import booking

# The last answer of a letter that may have been accepted.
PERHAPS_ACCEPTED = frozenset({"connection_lost_after_dot", "unintelligible_after_dot"})
PAID_BOOKINGS = frozenset({booking.Status.CONFIRMED, booking.Status.COMPLETED})


class State(StrEnum):
    """The state of a letter. sent, suppressed and dead are final; only a replay claims a dead one."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    SENT = "sent"
    SUPPRESSED = "suppressed"
    DEAD = "dead"


# A cancellation in one of these was found to be due. A dead one is an operator's to replay, and tells of the refund then.
CANCELLATION_GOES = frozenset({State.SENDING, State.RETRYING, State.SENT, State.DEAD})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The state of the same person's confirmation.

    A cancellation is sent only to those who got one, or may have got one, and names the refund that caused it; those who got
    none because it died have a full refund told by a letter of its own.
    """

    state: State
    lease_over: bool
    handed_over: bool
    reason: str | None
    last_answer: str | None
    possible_duplicates: int

    @property
    def in_flight(self) -> bool:
        """Whether a sender may still hand it over: while a lease runs, and after one that ended before DATA began.

        In the second case a slow sender may still begin DATA. This ends when the record under which it was claimed comes again.
        """
        return self.state is State.SENDING and not (self.lease_over and self.handed_over)

    @property
    def went_out(self) -> bool:
        """Whether it was accepted, or may have been: then a cancellation is better than silence."""
        return (
            self.state is State.SENT
            or (self.state is State.SENDING and self.handed_over)
            or self.reason in {Suppression.CANCELLED_PERHAPS_SENT, Suppression.SENT_BY_OLDER_APPLICATION}
            or self.last_answer in PERHAPS_ACCEPTED
            or self.possible_duplicates > 0
        )


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A letter's row, as far as sending it matters.

    `lease_over`: nobody holds its lease, by the database's clock. `handed_over`: its last sender had begun DATA.
    `holds_booking`: the booking names the letter's payment, or names none and this payment is the one that was paid (the older
    application named none). `refunded_minor`: what the letter says was refunded of `amount_minor`; `payment_refunded_minor`:
    what is refunded of its payment by now; both are None where nothing is known. `success_judged`: the bookings consumer has
    decided whether the payment's success confirms the booking. `full_refund_judged`: it has decided whether the full refund
    cancels the booking; `cancelled_booking` is that decision, None where it was not recorded. `confirmation` is the same
    person's, for a cancellation and a refund; `cancellation` the state of the same person's, for a refund: None before the
    event that cancelled the booking was taken.
    """

    state: State
    attempts: int
    lease_over: bool
    handed_over: bool
    last_answer: str | None
    kind: str
    booking_status: str | None
    possible_duplicates: int = 0
    holds_booking: bool = False
    amount_minor: int = 0
    refunded_minor: int | None = None
    payment_paid: bool | None = None
    payment_refunded_minor: int | None = None
    success_judged: bool = False
    full_refund_judged: bool = False
    cancelled_booking: bool | None = None
    confirmation: Confirmation | None = None
    cancellation: State | None = None

    @property
    def names_full_refund(self) -> bool:
        """Whether it says that the whole amount was refunded."""
        return self.refunded_minor == self.amount_minor

    @property
    def perhaps_sent(self) -> bool:
        """Whether it may have been accepted under its last claim, of which there is no record."""
        return (self.state is State.SENDING and self.handed_over) or self.last_answer in PERHAPS_ACCEPTED


@dataclass(frozen=True, slots=True)
class Claim:
    """It may be sent now. `maybe_sent`: it may have been accepted already, without a record; `attempts` so far."""

    maybe_sent: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class Suppress:
    """It must not be sent any more."""

    reason: Suppression


@dataclass(frozen=True, slots=True)
class Leased:
    """Another sender holds its lease: look again in a second."""


class Awaited(StrEnum):
    """The decision that an undecided letter depends on."""

    CONFIRMATION = "confirmation_in_flight"  # whether the same person's confirmation goes out: a sender still has it
    SUCCESS = "success_not_judged"  # whether the payment's success confirms the booking: the bookings consumer decides
    FULL_REFUND = "full_refund_not_judged"  # whether the full refund cancels the booking: likewise
    CANCELLATION = "cancellation_not_entered"  # whether the cancellation tells of it: the event is still on its way here


@dataclass(frozen=True, slots=True)
class Undecided:
    """Whether it is to be sent is not decided yet: look again, after longer times the longer that takes."""

    awaited: Awaited


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Nothing is left to do for this record; `why` is for the log."""

    why: str


Judgement = Claim | Suppress | Leased | Undecided | NothingToDo


def judge(letter: LetterRow, *, attempt: int, replayed: bool) -> Judgement:
    """Decide what to do with a record about `letter` that counts `attempt` attempts so far."""
    match letter.state:
        case State.SENT:
            return NothingToDo("already_sent")
        case State.SUPPRESSED:
            return NothingToDo("already_suppressed")
        case State.DEAD if not replayed:
            return NothingToDo("already_dead")
        case State.SENDING if not letter.lease_over:
            return Leased()
        case _ if attempt < letter.attempts and not replayed:
            return NothingToDo("stale")
        case _ if (awaited := awaits(letter)) is not None:
            return Undecided(awaited)
        case _ if (reason := withheld(letter)) is not None:
            return Suppress(reason)
        case State.SENDING | State.QUEUED | State.RETRYING:
            return Claim(letter.perhaps_sent, letter.attempts)
        case State.DEAD:
            # A replayed letter is tried as often as the first time.
            return Claim(letter.perhaps_sent, attempts=0)


def awaits(letter: LetterRow) -> Awaited | None:
    """Return what is still to be decided before a letter can be judged, None where nothing is."""
    match letter.kind:
        case Kind.CANCELLATION if letter.confirmation is not None and letter.confirmation.in_flight:
            return Awaited.CONFIRMATION
        case Kind.REFUND if letter.booking_status is None:  # the booking is gone: no consumer decides about it any more
            return None
        case Kind.REFUND if not letter.success_judged:
            return Awaited.SUCCESS
        case Kind.REFUND if letter.names_full_refund and not letter.full_refund_judged:
            return Awaited.FULL_REFUND
        case Kind.REFUND if letter.names_full_refund and letter.cancelled_booking:
            return _awaits_cancellation(letter)
        case _:
            return None


def _awaits_cancellation(letter: LetterRow) -> Awaited | None:
    """Return what is to be decided before it is known whether the cancellation tells of a full refund."""
    match letter.cancellation, letter.confirmation:
        case None, _:
            return Awaited.CANCELLATION
        case State.QUEUED, Confirmation(state=State.SENDING):
            return Awaited.CONFIRMATION
        case _:
            return None


def withheld(letter: LetterRow) -> Suppression | None:
    """Return why a letter must not be sent any more: what it says is no longer true, or it follows one that never went out."""
    match letter.kind:
        case Kind.CONFIRMATION if letter.booking_status == booking.Status.CANCELLED:
            perhaps = letter.perhaps_sent or letter.possible_duplicates
            return Suppression.CANCELLED_PERHAPS_SENT if perhaps else Suppression.CANCELLED_FIRST
        case Kind.CANCELLATION if letter.confirmation is None or not letter.confirmation.went_out:
            return Suppression.NEVER_CONFIRMED
        case Kind.REFUND if letter.names_full_refund and (silent := _silent_about_full_refund(letter)) is not None:
            return silent
        case Kind.REFUND if not letter.holds_booking:
            return Suppression.HOLDS_NO_BOOKING
        case Kind.REFUND if letter.payment_refunded_minor not in {None, letter.refunded_minor}:
            return Suppression.SUPERSEDED
        case Kind.PAYMENT_FAILED if letter.payment_paid or letter.booking_status in PAID_BOOKINGS:
            return Suppression.PAID
        case _:
            return None


def _silent_about_full_refund(letter: LetterRow) -> Suppression | None:
    """Return why a full refund has no letter of its own, None where no other letter tells of it.

    Where it cancelled the booking, the cancellation tells. Where no cancellation goes because the confirmation died, the client
    has paid, and must be told of the money; where the booking was cancelled before the confirmation left, all are silent.
    """
    confirmation = letter.confirmation
    went_out = confirmation is not None and confirmation.went_out
    if letter.cancelled_booking is False:
        return None
    if letter.cancelled_booking is None or letter.cancellation in CANCELLATION_GOES:
        return Suppression.CANCELLATION_TELLS
    if letter.cancellation is State.QUEUED and went_out:
        return Suppression.CANCELLATION_TELLS
    return None if confirmation is not None and confirmation.state is State.DEAD else Suppression.NEVER_CONFIRMED


def refund_to_name(kind: str, refunded_minor: int | None, payment_refunded_minor: int | None) -> int | None:
    """Return the refund that a letter may name, in minor units; None when it may name none.

    A refund's letter is withheld when its amount is no longer true. A cancellation is due even then, since its session does not
    take place, but it names no refund that came back or was never paid out.
    """
    if kind == Kind.CANCELLATION and payment_refunded_minor not in {None, refunded_minor}:
        return None
    return refunded_minor
