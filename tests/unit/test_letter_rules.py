"""What the ledger says about sending a letter now: the table of decisions, without a database."""

import itertools
from dataclasses import replace

import pytest

from consumers.email.kinds import Kind, Suppression
from consumers.email.ledger import (
    Awaited,
    Claim,
    Confirmation,
    Leased,
    LetterRow,
    NothingToDo,
    State,
    Suppress,
    Undecided,
    judge,
)
from shared.domain.booking import Status

QUEUED = LetterRow(
    state=State.QUEUED,
    attempts=0,
    lease_over=True,
    handed_over=False,
    last_answer=None,
    kind=Kind.CONFIRMATION,
    booking_status=Status.CONFIRMED,
    holds_booking=True,
)
OURS = Claim(maybe_sent=False, attempts=0)
NO_BOOKING = Suppress(Suppression.HOLDS_NO_BOOKING)
REFUND = {
    "kind": Kind.REFUND,
    "amount_minor": 7500,
    "refunded_minor": 2500,
    "payment_refunded_minor": 2500,
    "payment_paid": True,
    "success_judged": True,
}
FULL_REFUND = REFUND | {
    "refunded_minor": 7500,
    "payment_refunded_minor": 7500,
    "full_refund_judged": True,
    "cancelled_booking": False,
}
FAILED = {"kind": Kind.PAYMENT_FAILED, "booking_status": Status.PENDING, "payment_paid": False}
CONFIRMED = Confirmation(
    state=State.RETRYING, lease_over=True, handed_over=False, reason=None, last_answer=None, possible_duplicates=0
)


def judged(*, attempt=0, replayed=False, **changes):
    return judge(replace(QUEUED, **changes), attempt=attempt, replayed=replayed)


@pytest.mark.parametrize(
    ("changes", "judgement"),
    [
        ({}, OURS),
        ({"state": State.RETRYING}, OURS),
        ({"state": State.SENT}, NothingToDo("already_sent")),
        ({"state": State.SUPPRESSED}, NothingToDo("already_suppressed")),
        ({"state": State.DEAD}, NothingToDo("already_dead")),
        ({"state": State.SENT, "replayed": True}, NothingToDo("already_sent")),
        ({"state": State.SUPPRESSED, "replayed": True}, NothingToDo("already_suppressed")),
        ({"state": State.DEAD, "attempts": 6, "replayed": True}, OURS),
        ({"state": State.SENDING, "lease_over": False}, Leased()),
        ({"state": State.SENDING, "lease_over": False, "replayed": True}, Leased()),
        ({"state": State.SENDING}, OURS),
        ({"state": State.SENDING, "handed_over": True}, Claim(maybe_sent=True, attempts=0)),
        ({"state": State.RETRYING, "handed_over": True}, OURS),
        ({"state": State.RETRYING, "last_answer": "connection_lost_after_dot"}, Claim(maybe_sent=True, attempts=0)),
        ({"state": State.RETRYING, "last_answer": "unintelligible_after_dot"}, Claim(maybe_sent=True, attempts=0)),
        ({"state": State.RETRYING, "last_answer": "unintelligible_before_dot"}, Claim(maybe_sent=False, attempts=0)),
        ({"state": State.RETRYING, "attempts": 2, "attempt": 1}, NothingToDo("stale")),
        ({"state": State.RETRYING, "attempts": 2, "attempt": 2}, Claim(maybe_sent=False, attempts=2)),
        ({"state": State.RETRYING, "attempts": 2, "attempt": 3}, Claim(maybe_sent=False, attempts=2)),
    ],
)
def test_a_letter_is_claimed_only_when_it_is_not_over_and_nobody_holds_it(changes, judgement):
    """Ends stay ends but for a replay of a dead one; a lease is respected, and an earlier attempt's record is nothing."""
    assert judged(**changes) == judgement


@pytest.mark.parametrize(
    ("changes", "judgement"),
    [
        ({"booking_status": Status.COMPLETED}, OURS),
        ({"booking_status": Status.CANCELLED}, Suppress(Suppression.CANCELLED_FIRST)),
        (
            {"booking_status": Status.CANCELLED, "state": State.SENDING, "handed_over": True},
            Suppress(Suppression.CANCELLED_PERHAPS_SENT),
        ),
        ({"booking_status": Status.CANCELLED, "possible_duplicates": 1}, Suppress(Suppression.CANCELLED_PERHAPS_SENT)),
        (REFUND, OURS),
        (REFUND | {"booking_status": Status.PENDING}, OURS),
        (REFUND | {"success_judged": False, "holds_booking": False}, Undecided(Awaited.SUCCESS)),
        (REFUND | {"success_judged": False, "booking_status": None, "holds_booking": False}, NO_BOOKING),
        (REFUND | {"holds_booking": False}, NO_BOOKING),
        (REFUND | {"payment_refunded_minor": 5000}, Suppress(Suppression.SUPERSEDED)),
        (REFUND | {"payment_refunded_minor": None}, OURS),
        (FULL_REFUND | {"booking_status": Status.COMPLETED}, OURS),
        (FULL_REFUND | {"booking_status": Status.CANCELLED}, OURS),
        (FULL_REFUND | {"full_refund_judged": False, "cancelled_booking": None}, Undecided(Awaited.FULL_REFUND)),
        (
            FULL_REFUND | {"full_refund_judged": False, "booking_status": None, "holds_booking": False},
            NO_BOOKING,
        ),
        (FULL_REFUND | {"cancelled_booking": True}, Undecided(Awaited.CANCELLATION)),
        (FULL_REFUND | {"cancelled_booking": None}, Suppress(Suppression.CANCELLATION_TELLS)),
        (FULL_REFUND | {"holds_booking": False}, NO_BOOKING),
        (FULL_REFUND | {"payment_refunded_minor": 0}, Suppress(Suppression.SUPERSEDED)),
        (FAILED, OURS),
        (FAILED | {"payment_paid": None, "booking_status": Status.CANCELLED}, OURS),
        (FAILED | {"payment_paid": True}, Suppress(Suppression.PAID)),
        (FAILED | {"booking_status": Status.CONFIRMED}, Suppress(Suppression.PAID)),
        (FAILED | {"booking_status": Status.COMPLETED}, Suppress(Suppression.PAID)),
    ],
)
def test_what_is_not_true_any_more_is_not_sent(changes, judgement):
    """A session that was called off, money that holds nothing or is another amount by now, a failure that was made good."""
    assert judged(**changes) == judgement


IN_FLIGHT = Undecided(Awaited.CONFIRMATION)
NOT_SENT = Suppress(Suppression.NEVER_CONFIRMED)


@pytest.mark.parametrize(
    ("confirmation", "judgement"),
    [
        ({}, NOT_SENT),
        ({"state": State.QUEUED}, NOT_SENT),
        ({"state": State.DEAD}, NOT_SENT),
        ({"state": State.DEAD, "handed_over": True}, NOT_SENT),
        ({"state": State.SUPPRESSED, "reason": Suppression.CANCELLED_FIRST}, NOT_SENT),
        ({"state": State.SENT}, OURS),
        ({"state": State.SUPPRESSED, "reason": Suppression.CANCELLED_PERHAPS_SENT}, OURS),
        ({"state": State.SUPPRESSED, "reason": Suppression.SENT_BY_OLDER_APPLICATION}, OURS),
        ({"state": State.DEAD, "last_answer": "connection_lost_after_dot"}, OURS),
        ({"state": State.DEAD, "possible_duplicates": 1}, OURS),
        ({"state": State.SENDING, "lease_over": False}, IN_FLIGHT),
        ({"state": State.SENDING, "lease_over": False, "handed_over": True}, IN_FLIGHT),
        ({"state": State.SENDING}, IN_FLIGHT),
        ({"state": State.SENDING, "handed_over": True}, OURS),
    ],
)
def test_a_cancellation_follows_a_confirmation_that_went_out(confirmation, judgement):
    """Or may have; while somebody may still hand the confirmation over it waits."""
    follows = {"kind": Kind.CANCELLATION, "booking_status": Status.CANCELLED}

    assert judged(**follows, confirmation=replace(CONFIRMED, **confirmation)) == judgement
    assert judged(**follows, confirmation=None) == NOT_SENT


DIED = {"state": State.DEAD}
IN_HAND = {"state": State.SENDING, "handed_over": True}
MAY_HAVE_COME = DIED | {"possible_duplicates": 1}
OLDER = {"state": State.SUPPRESSED, "reason": Suppression.SENT_BY_OLDER_APPLICATION}
TAKEN_BACK = {"state": State.SUPPRESSED, "reason": Suppression.CANCELLED_FIRST}
TOLD_BY_IT = Suppress(Suppression.CANCELLATION_TELLS)


@pytest.mark.parametrize(
    ("cancellation", "confirmation", "judgement"),
    [
        *((None, confirmation, Undecided(Awaited.CANCELLATION)) for confirmation in ({}, DIED, {"state": State.SENT}, OLDER)),
        *((state, {"state": State.SENT}, TOLD_BY_IT) for state in State if state is not State.SUPPRESSED),
        *((State.QUEUED, confirmation, TOLD_BY_IT) for confirmation in (OLDER, MAY_HAVE_COME)),
        *((State.QUEUED, confirmation, IN_FLIGHT) for confirmation in (IN_HAND, IN_HAND | {"lease_over": False})),
        *((state, DIED, OURS) for state in (State.QUEUED, State.SUPPRESSED)),
        *((state, TAKEN_BACK, NOT_SENT) for state in (State.QUEUED, State.SUPPRESSED)),
        *((state, MAY_HAVE_COME, TOLD_BY_IT) for state in (State.SENDING, State.RETRYING, State.SENT, State.DEAD)),
    ],
)
def test_a_full_refund_that_cancelled_the_booking_has_its_own_letter_where_no_cancellation_goes(
    cancellation, confirmation, judgement
):
    """The confirmation died, and the client has paid; where it was taken back before it left, all is silent."""
    world = FULL_REFUND | {"cancelled_booking": True, "booking_status": Status.CANCELLED, "cancellation": cancellation}

    assert judged(**world, confirmation=replace(CONFIRMED, **confirmation)) == judgement


def test_the_letter_of_a_full_refund_that_has_changed_since_is_not_sent_though_the_confirmation_died():
    """It names an amount that is not true any more."""
    world = FULL_REFUND | {"cancelled_booking": True, "cancellation": State.SUPPRESSED, "payment_refunded_minor": 0}

    assert judged(**world, confirmation=replace(CONFIRMED, **DIED)) == Suppress(Suppression.SUPERSEDED)


@pytest.mark.parametrize("kind", Kind)
def test_no_kind_is_sent_whatever_has_become_of_what_it_tells(kind):
    """Each has its rule for when it is true no more."""
    worlds = itertools.product(Status, (True, False), (True, False), (1, 2))
    found = [
        judged(
            kind=kind,
            refunded_minor=1,
            booking_status=status,
            success_judged=True,
            holds_booking=holds,
            payment_paid=paid,
            payment_refunded_minor=back,
        )
        for status, holds, paid, back in worlds
    ]

    assert any(isinstance(one, Suppress) for one in found)
