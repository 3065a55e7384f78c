"""What a booking follows: the table of decisions, and that no sequence of messages breaks it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.booking import (
    Booking,
    Cancel,
    Confirm,
    Conflict,
    NoChange,
    PaymentSnapshot,
    RaiseConflict,
    Status,
    follow,
    snapshot_after,
)

OURS, OTHER = "p-ours", "p-other"


def known(version=1, *, paid=False, cancel_due=False, payment_id=OURS):
    return PaymentSnapshot(payment_id, version, paid, cancel_due)


@pytest.mark.parametrize(
    ("status", "held_by", "outcome"),
    [
        (Status.PENDING, None, Confirm()),
        (Status.PENDING, OTHER, Confirm()),
        (Status.CONFIRMED, None, Confirm()),
        (Status.CONFIRMED, OURS, NoChange("")),
        (Status.CONFIRMED, OTHER, RaiseConflict(Conflict.ALREADY_PAID)),
        (Status.CANCELLED, None, RaiseConflict(Conflict.CANCELLED)),
        (Status.CANCELLED, OURS, RaiseConflict(Conflict.CANCELLED)),
        (Status.COMPLETED, None, RaiseConflict(Conflict.COMPLETED)),
        (Status.COMPLETED, OURS, RaiseConflict(Conflict.COMPLETED)),
    ],
)
@pytest.mark.parametrize("before", [None, known(0)])
def test_money_that_arrives_confirms_what_can_be_confirmed_and_raises_a_conflict_else(status, held_by, outcome, before):
    """Pending is confirmed, an unheld confirmation is adopted, everything else is a conflict; also after a declined card."""
    decided = follow(Booking("b", status, held_by), before, known(paid=True), another_is_paid=False)

    assert type(decided) is type(outcome)
    if isinstance(outcome, RaiseConflict):
        assert decided == outcome


def test_money_that_arrives_when_the_session_is_over_says_so():
    """It confirms all the same; what the older application had confirmed is no late money."""
    late = Booking("b", Status.PENDING, None, over=True)
    adopted = Booking("b", Status.CONFIRMED, None, over=True)

    assert follow(late, None, known(paid=True), another_is_paid=False) == Confirm(after_session=True)
    assert follow(adopted, None, known(paid=True), another_is_paid=False) == Confirm(after_session=False)


def test_a_second_payment_never_takes_over_a_booking_that_names_none():
    """The older application confirmed it for a payment that is still paid: the new money is a twin, not the holder."""
    booking = Booking("b", Status.CONFIRMED, None)

    assert follow(booking, None, known(paid=True), another_is_paid=True) == RaiseConflict(Conflict.ALREADY_PAID)
    assert follow(booking, None, known(paid=True), another_is_paid=False) == Confirm()


@pytest.mark.parametrize(("outcome", "cancelled"), [(Cancel(confirmed_elsewhere=False), True), (NoChange("it ended"), False)])
def test_what_came_of_an_earlier_message_stays_known(outcome, cancelled):
    """A conflict, and what the full refund did: later messages say nothing of them."""
    paid = snapshot_after(None, known(paid=True), RaiseConflict(Conflict.CANCELLED))
    refunded = snapshot_after(paid, known(2, paid=True, cancel_due=True), outcome)
    disputed = snapshot_after(refunded, known(3, paid=True, cancel_due=True), NoChange("nothing new"))

    assert (paid.conflict_reason, paid.cancelled_booking) == (Conflict.CANCELLED, None)
    assert (refunded.conflict_reason, refunded.cancelled_booking) == (Conflict.CANCELLED, cancelled)
    assert disputed == replace(refunded, version=3)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("held_by", [None, OURS, OTHER])
@pytest.mark.parametrize("another_is_paid", [False, True])
def test_money_that_goes_back_cancels_only_the_booking_that_it_holds(status, held_by, another_is_paid):
    """Only the payment that holds the booking cancels it; held by nobody, only if no other is paid; an ended one never.

    Whoever is confirmed here is told by us: only a confirmation that names no payment was the older application's.
    """
    decided = follow(
        Booking("b", status, held_by),
        known(paid=True),
        known(2, paid=True, cancel_due=True),
        another_is_paid=another_is_paid,
    )
    holds = held_by == OURS or (held_by is None and not another_is_paid)
    alive = status in {Status.PENDING, Status.CONFIRMED}

    elsewhere = status is Status.CONFIRMED and held_by is None

    assert decided == Cancel(confirmed_elsewhere=elsewhere) if holds and alive else isinstance(decided, NoChange)


@pytest.mark.parametrize("status", Status)
def test_a_payment_that_was_paid_before_confirms_nothing_again(status):
    """Later messages of a payment that was paid before only watch for a full refund."""
    decided = follow(Booking("b", status, None), known(paid=True), known(2, paid=True), another_is_paid=False)
    assert isinstance(decided, NoChange)


@pytest.mark.parametrize("status", Status)
def test_an_unpaid_payment_moves_nothing(status):
    """A decline, an expiry, a dispute."""
    assert isinstance(follow(Booking("b", status, None), None, known(), another_is_paid=False), NoChange)


MESSAGES = st.lists(st.tuples(st.sampled_from([OURS, OTHER]), st.integers(1, 6)), max_size=14)


@given(told=MESSAGES, paid_from=st.integers(1, 6), due_from=st.integers(2, 8), start=st.sampled_from(Status))
def test_no_sequence_of_messages_breaks_a_booking(told, paid_from, due_from, start):
    """Versions swapped, skipped and repeated: ended bookings stay, a conflict is raised once a payment, a hold never moves."""
    booking, memory, conflicts = Booking("b", start, None), {}, []
    for payment_id, version in told:
        before = memory.get(payment_id)
        if before is not None and version <= before.version:
            continue
        now = known(version, paid=version >= paid_from, cancel_due=version >= due_from, payment_id=payment_id)
        another = any(k.paid and not k.cancel_due for k in memory.values() if k.payment_id != payment_id)
        was = booking
        match follow(booking, before, now, another_is_paid=another):
            case Confirm():
                booking = Booking("b", Status.CONFIRMED, payment_id)
            case Cancel():
                booking = Booking("b", Status.CANCELLED, booking.payment_id)
            case RaiseConflict():
                conflicts.append(payment_id)
            case NoChange():
                pass
        memory[payment_id] = now
        if was.status in {Status.CANCELLED, Status.COMPLETED}:
            assert booking == was
        if was.payment_id is not None:
            assert booking.payment_id == was.payment_id

    assert len(conflicts) == len(set(conflicts))
