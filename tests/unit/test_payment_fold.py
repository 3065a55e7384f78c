"""The fold of a payment: any order and any number of copies of the same facts end in one state."""

from collections import Counter
from itertools import combinations, permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.domain.payment import (
    Announcement,
    Changed,
    ChargeRefunded,
    ClosedReason,
    DisputeSeen,
    Fact,
    Failed,
    Noted,
    Paid,
    RefundSeen,
    Status,
    Unchanged,
    advance,
    needs_a_person,
    needs_no_person,
)
from tests.proof.fold import ALPHABET
from tests.support.builders import Sale

AMOUNT = 100
AMOUNTS = st.sampled_from([0, 1, 40, 60, 99, 100, 160])
STATUSES = st.sampled_from(["pending", "requires_action", "succeeded", "failed", "canceled"])
# A refund's amount never changes: Stripe makes another refund.
REFUNDS = st.sampled_from([("re_1", 40), ("re_2", 60), ("re_3", 60), ("re_4", 100), ("re_5", 1)])
DRAWN = {
    Paid: st.just(Paid(AMOUNT, "usd")),
    Failed: st.builds(Failed, st.integers(1, 5), st.sampled_from(["generic_decline", "expired", "fraudulent"]))
    | st.builds(
        Failed,
        st.integers(1, 5),
        st.sampled_from(["expired", "canceled"]),
        st.sampled_from([ClosedReason.EXPIRED, ClosedReason.CANCELED, ClosedReason.ASYNC_FAILED]),
    ),
    RefundSeen: st.builds(lambda refund, status: RefundSeen(refund[0], status, refund[1]), REFUNDS, STATUSES),
    ChargeRefunded: st.builds(ChargeRefunded, AMOUNTS),
    DisputeSeen: st.builds(
        DisputeSeen,
        st.sampled_from(["dp_1", "dp_2"]),
        st.sampled_from(["needs_response", "under_review", "won", "lost", "warning_closed"]),
    ),
    Noted: st.just(Noted()),
}
FACTS = st.one_of(*DRAWN.values())
SESSIONS = st.sampled_from([None, "cs_1"])
INTENTS = st.sampled_from([None, "pi_1", "pi_2"])
EVENTS = st.lists(st.tuples(FACTS, SESSIONS, INTENTS), max_size=10)
TIMING = {"version": 0, "closed": False, "slot_free": False}


def opened():
    return Sale(amount_minor=AMOUNT, payment_id="p", booking_id="b").payment()


def step(known, event):
    fact, session_id, intent_id = event
    return advance(known, fact, session_id=session_id, intent_id=intent_id)


def fold(events, known=None):
    known = known or opened()
    for event in events:
        known = step(known, event).now
    return known


def plain(*facts):
    return fold([(fact, None, None) for fact in facts])


def told(*facts):
    """What is announced, fact by fact; None where nothing is."""
    known, announced = opened(), []
    for fact in facts:
        outcome = advance(known, fact)
        announced.append(outcome.announcement if isinstance(outcome, Changed) else None)
        known = outcome.now
    return announced


def test_every_fact_is_drawn():
    """The rule by which one is joined could count twice, or go by order, and no test would meet it: in the proofs likewise."""
    assert set(DRAWN) == set(get_args(Fact)) == {type(fact) for fact, _, _ in ALPHABET}


@settings(max_examples=400)
@given(events=EVENTS, data=st.data())
def test_any_order_and_any_number_of_copies_end_the_same(events, data):
    """All but `version`, `closed` and `slot_free`, which tell of timing."""
    shuffled = data.draw(st.permutations(events))
    copies = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    once, again = fold(events), fold([*shuffled, *copies])

    assert replace(once, **TIMING) == replace(again, **TIMING)
    assert (once.status, once.refunded_minor, once.cancel_due, once.dispute_open, once.intent_id) == (
        again.status,
        again.refunded_minor,
        again.cancel_due,
        again.dispute_open,
        again.intent_id,
    )
    assert once.closed == again.closed


@given(events=EVENTS, event=st.tuples(FACTS, SESSIONS, INTENTS))
def test_the_same_fact_twice_is_the_same_as_once(events, event):
    """A repeat is Unchanged, and takes no version."""
    known = step(fold(events), event).now
    again = step(known, event)

    assert again == Unchanged(known, known.shown())


@given(events=EVENTS)
def test_every_change_of_what_is_shown_takes_exactly_one_version(events):
    """A version for each change, none without one: readers may rely on both."""
    known = opened()
    for event in events:
        outcome = step(known, event)
        match outcome:
            case Changed(now=now, was=was, shown=shown):
                assert (was, shown) == (known.shown(), now.shown())
                assert was != shown
                assert now.version == known.version + 1
            case Unchanged(now=now, shown=shown):
                assert shown == now.shown() == known.shown()
                assert now.version == known.version
        known = outcome.now


@given(events=EVENTS)
def test_paid_is_never_forgotten_and_a_success_never_becomes_a_failure(events):
    """SUCCEEDED may only become REFUNDED; closed and cancel_due are never taken back."""
    known = opened()
    for event in events:
        now = step(known, event).now
        assert now.paid >= known.paid
        assert now.closed >= known.closed
        assert now.cancel_due >= known.cancel_due
        if known.status is Status.SUCCEEDED:
            assert now.status in {Status.SUCCEEDED, Status.REFUNDED}
        if now.status is Status.FAILED:
            assert not now.paid
        known = now


@given(events=EVENTS)
def test_a_refund_that_failed_is_the_only_step_back(events):
    """REFUNDED is left by nothing else."""
    known = opened()
    for event in events:
        now = step(known, event).now
        if known.status is Status.REFUNDED and now.status is not Status.REFUNDED:
            assert isinstance(event[0], RefundSeen)
            assert event[0].status in {"failed", "canceled"}
            assert "refund_failed" in set(needs_a_person(known, now))
        known = now


@given(events=EVENTS)
def test_no_more_than_the_amount_is_ever_shown_as_given_back(events):
    """Nor less than nothing: whoever reads it between two events pays out, or claims, the difference."""
    known = opened()
    for event in events:
        known = step(known, event).now
        assert 0 <= known.refunded_minor <= AMOUNT


@pytest.mark.parametrize(
    "facts",
    list(
        permutations(
            (
                Paid(100, "usd"),
                RefundSeen("re_1", "succeeded", 100),
                ChargeRefunded(100),
                RefundSeen("re_1", "failed", 100),
            )
        )
    ),
)
def test_of_a_full_refund_that_failed_a_person_is_told_in_any_order(facts):
    """The booking is cancelled and the money is ours again: somebody owes it, whatever arrived first."""
    known, told = opened(), set()
    for fact in facts:
        now = step(known, (fact, None, None)).now
        told |= set(needs_a_person(known, now))
        known = now

    assert (known.status, known.cancel_due) == (Status.SUCCEEDED, True)
    assert "refund_failed" in told


@pytest.mark.parametrize("end", ["failed", "canceled"])
@pytest.mark.parametrize("order", [*permutations(["pending", "succeeded"]), ["pending"], ["succeeded"], []], ids=str)
@pytest.mark.parametrize("amount", [40, 100])
def test_of_each_refund_that_failed_a_person_is_told_once(order, end, amount):
    """Of a part as of all, on its way or given, whatever of it was seen before: whoever made it believes the customer paid."""
    seen = [RefundSeen("re_1", status, amount) for status in order]
    known, told = plain(Paid(100, "usd"), RefundSeen("re_0", "failed", 1)), []
    for fact in (*seen, RefundSeen("re_1", end, amount), *seen, RefundSeen("re_1", end, amount), ChargeRefunded(amount)):
        now = step(known, (fact, None, None)).now
        told += needs_a_person(known, now)
        known = now

    assert told == ["refund_failed"]


@given(events=EVENTS)
def test_a_slot_is_free_only_while_the_payment_is_closed_and_unpaid(events):
    """Whoever frees a slot by it never frees one that is paid for."""
    known = fold(events)
    assert not known.slot_free or (known.closed and not known.paid)
    assert not (known.closed_reason is ClosedReason.REFUNDED and known.slot_free)


@pytest.mark.parametrize(
    ("facts", "status", "refunded", "cancel_due"),
    [
        ((), Status.PENDING, 0, False),
        ((Noted(),), Status.PENDING, 0, False),
        ((Failed(1, "x"),), Status.FAILED, 0, False),
        ((Failed(1, "x"), Paid(100, "usd")), Status.SUCCEEDED, 0, False),
        ((Paid(100, "usd"), Failed(9, "x")), Status.SUCCEEDED, 0, False),
        ((ChargeRefunded(100),), Status.REFUNDED, 100, True),
        ((Paid(100, "usd"), ChargeRefunded(60)), Status.SUCCEEDED, 60, False),
        ((Paid(100, "usd"), ChargeRefunded(60), ChargeRefunded(100)), Status.REFUNDED, 100, True),
        ((Paid(100, "usd"), RefundSeen("re_1", "pending", 100)), Status.SUCCEEDED, 0, False),
        ((Paid(100, "usd"), RefundSeen("re_1", "succeeded", 100)), Status.REFUNDED, 100, True),
        # The refund that came back: the money is ours again, the booking stays cancelled.
        (
            (Paid(100, "usd"), RefundSeen("re_1", "succeeded", 100), ChargeRefunded(100), RefundSeen("re_1", "failed", 100)),
            Status.SUCCEEDED,
            0,
            True,
        ),
        # The same where the charge's own event never came: the refund itself was full once.
        (
            (Paid(100, "usd"), RefundSeen("re_1", "succeeded", 100), RefundSeen("re_1", "failed", 100)),
            Status.SUCCEEDED,
            0,
            True,
        ),
        # 60, failed, and 60 again is no full refund.
        (
            (
                Paid(100, "usd"),
                RefundSeen("re_1", "succeeded", 60),
                RefundSeen("re_1", "failed", 60),
                RefundSeen("re_2", "succeeded", 60),
            ),
            Status.SUCCEEDED,
            60,
            False,
        ),
        # All of it, which came back, and all of it again: until the failure of the first is heard of, both stand.
        (
            (Paid(100, "usd"), RefundSeen("re_1", "succeeded", 100), RefundSeen("re_2", "succeeded", 100)),
            Status.REFUNDED,
            100,
            True,
        ),
        # In two parts, and the charge's own event never came.
        (
            (Paid(100, "usd"), RefundSeen("re_1", "succeeded", 60), RefundSeen("re_2", "succeeded", 40)),
            Status.REFUNDED,
            100,
            False,
        ),
    ],
)
def test_the_status_follows_from_the_facts(facts, status, refunded, cancel_due):
    """The four states, and the money behind them."""
    known = plain(*facts)
    assert (known.status, known.refunded_minor, known.cancel_due) == (status, refunded, cancel_due)


def test_a_payment_of_nothing_was_never_given_back():
    """The older application may have sold a session for nothing: it stays booked."""
    free = replace(opened(), amount_minor=0)
    paid = fold([(Paid(0, "usd"), None, None), (ChargeRefunded(0), None, None)], free)
    assert (paid.status, paid.cancel_due, paid.closed) == (Status.SUCCEEDED, False, False)


@pytest.mark.parametrize(
    ("facts", "announced"),
    [
        ([Paid(100, "usd")], [Announcement.SUCCEEDED]),
        ([Failed(1, "generic_decline"), Paid(100, "usd")], [Announcement.FAILED, Announcement.SUCCEEDED]),
        ([Failed(1, "a"), Failed(2, "b"), Failed(1, "c")], [Announcement.FAILED, Announcement.FAILED, None]),
        ([Paid(100, "usd"), Failed(2, "late")], [Announcement.SUCCEEDED, Announcement.UPDATED]),
        ([Failed(1, "expired", ClosedReason.EXPIRED)], [Announcement.EXPIRED]),
        ([Paid(100, "usd"), Failed(1, "expired", ClosedReason.EXPIRED)], [Announcement.SUCCEEDED, Announcement.UPDATED]),
        ([Failed(1, "async_failed", ClosedReason.ASYNC_FAILED)], [Announcement.FAILED]),
        (
            [Paid(100, "usd"), ChargeRefunded(40), ChargeRefunded(100)],
            [Announcement.SUCCEEDED, Announcement.PARTIALLY_REFUNDED, Announcement.REFUNDED],
        ),
        (
            [Failed(1, "a"), DisputeSeen("dp_1", "needs_response"), Paid(100, "usd"), Failed(2, "late")],
            [Announcement.FAILED, Announcement.DISPUTED, Announcement.SUCCEEDED, Announcement.UPDATED],
        ),
        (
            [ChargeRefunded(100), Paid(100, "usd"), DisputeSeen("dp_1", "needs_response")],
            [Announcement.REFUNDED, Announcement.SUCCEEDED, Announcement.DISPUTED],
        ),
        (
            [RefundSeen("re_1", "succeeded", 40), RefundSeen("re_1", "failed", 40)],
            [Announcement.PARTIALLY_REFUNDED, Announcement.REFUND_FAILED],
        ),
        (
            [DisputeSeen("dp_1", "needs_response"), DisputeSeen("dp_1", "under_review"), DisputeSeen("dp_1", "won")],
            [Announcement.DISPUTED, None, Announcement.DISPUTE_CLOSED],
        ),
        ([Noted()], [None]),
    ],
)
def test_what_happened_is_named(facts, announced):
    """For people; consumers decide from the state."""
    assert told(*facts) == announced


def test_a_decline_does_not_close_and_an_expiry_frees_the_slot():
    """A second card on the same session may still succeed."""
    declined = plain(Failed(1, "generic_decline"))
    expired = plain(Failed(1, "generic_decline"), Failed(2, "expired", ClosedReason.EXPIRED))
    assert (declined.closed, declined.slot_free) == (False, False)
    assert (expired.closed, expired.slot_free, expired.closed_reason) == (True, True, ClosedReason.EXPIRED)
    assert plain(Failed(2, "expired", ClosedReason.EXPIRED), Paid(100, "usd")).slot_free is False


@pytest.mark.parametrize("reason", [ClosedReason.EXPIRED, ClosedReason.CANCELED, ClosedReason.ASYNC_FAILED])
def test_whatever_ends_a_payment_unpaid_frees_the_slot(reason):
    """Nobody can pay there any more: an expiry, a cancellation, a bank debit that failed."""
    ended = plain(Failed(1, str(reason), reason))
    assert (ended.closed, ended.closed_reason, ended.slot_free) == (True, reason, True)


def test_a_full_refund_closes_and_frees_no_slot():
    """The booking may be sold again by another checkout; a part closes nothing."""
    part, full = plain(Paid(100, "usd"), ChargeRefunded(99)), plain(Paid(100, "usd"), ChargeRefunded(100))
    assert (part.closed, part.closed_reason) == (False, None)
    assert (full.closed, full.closed_reason, full.slot_free) == (True, ClosedReason.REFUNDED, False)


@pytest.mark.parametrize(("first", "then"), list(combinations(ClosedReason, 2)))
def test_of_two_ends_the_weightier_is_shown_in_either_order(first, then):
    """A session that expired and whose bank debit failed, or whose money was given back after all."""
    ends = {reason: Failed(1, str(reason), reason) for reason in ClosedReason} | {ClosedReason.REFUNDED: ChargeRefunded(100)}
    assert plain(ends[first], ends[then]).closed_reason is then
    assert plain(ends[then], ends[first]).closed_reason is then


def test_a_row_that_checkout_closed_frees_no_slot():
    """Another payment of the booking is open."""
    closed = replace(opened(), closed=True)
    expired = advance(closed, Failed(1, "expired", ClosedReason.EXPIRED))
    assert (expired.now.slot_free, expired.announcement) == (False, Announcement.UPDATED)


def test_the_intent_that_paid_is_shown():
    """A session may in the end have had two."""
    both = fold([(Failed(1, "x"), None, "pi_1"), (Paid(100, "usd"), None, "pi_2")])
    assert both.intent_id == "pi_2"
    assert fold([(Noted(), None, "pi_2"), (Noted(), None, "pi_1")]).intent_id == "pi_1"


def test_a_dispute_and_refunds_without_their_charge_are_for_a_person():
    """REFUNDED although nobody cancels the booking: somebody looks."""
    paid = plain(Paid(100, "usd"))
    parts = fold([(RefundSeen("re_1", "succeeded", 60), None, None), (RefundSeen("re_2", "succeeded", 40), None, None)], paid)
    assert set(needs_a_person(paid, parts)) == {"refunded_in_parts_without_charge"}
    assert set(needs_no_person(paid, parts)) == set()
    told = fold([(ChargeRefunded(100), None, None)], parts)
    assert (set(needs_a_person(parts, told)), set(needs_no_person(parts, told))) == (
        set(),
        {"refunded_in_parts_without_charge"},
    )
    assert set(needs_a_person(parts, fold([(Failed(1, "late"), None, None)], parts))) == set()
    assert set(needs_a_person(paid, fold([(DisputeSeen("dp_1", "needs_response"), None, None)], paid))) == {"dispute_opened"}


@pytest.mark.parametrize("end", ["won", "lost", "warning_closed", "prevented"])
def test_a_dispute_is_open_until_it_has_ended_either_way(end):
    """Refunds are blocked meanwhile, and no longer: an inquiry that was closed or warded off counts as an end, too."""
    begun = plain(Paid(100, "usd"), DisputeSeen("dp_1", "warning_needs_response"))
    assert begun.dispute_open
    assert not fold([(DisputeSeen("dp_1", end), None, None)], begun).dispute_open


@pytest.mark.parametrize("first", ["needs_response", "lost", "prevented"])
def test_of_each_dispute_and_of_its_loss_a_person_is_told_once_in_any_order(first):
    """Also when its end is the first that is heard of it, and while another one is open."""
    known, told = plain(Paid(100, "usd"), DisputeSeen("dp_0", "needs_response")), []
    for status in (first, "needs_response", "lost", first):
        now = step(known, (DisputeSeen("dp_1", status), None, None)).now
        told += needs_a_person(known, now)
        known = now

    assert Counter(told) == {"dispute_opened": 1, "dispute_lost": 1}


@pytest.mark.parametrize("ends", [*permutations(["needs_response", "won", "lost", "warning_closed"])])
def test_a_dispute_that_was_ever_lost_is_shown_as_lost(ends):
    """A bank may take the money after all; which it said last nobody can tell, and this one costs."""
    assert plain(*(DisputeSeen("dp_1", status) for status in ends)).disputes == {"dp_1": "lost"}
