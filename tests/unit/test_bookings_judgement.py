"""What a batch of payments' changes does to a booking, judged without a database: any order, any copies, any batches."""

import itertools
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.bookings.decide import LoadedState, decide
from consumers.bookings.handlers import Bookings
from shared import messages
from shared.domain.booking import Booking, PaymentSnapshot, Status
from shared.domain.matter import Matter
from tests import oracle
from tests.support.builders import Sale, payment_event, record

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 12, 1, tzinfo=UTC)
SALE = Sale()
# Three payments of one booking, each of another amount: what is told of one never shows the money of another.
PAYMENTS = {str(uuid.UUID(int=n)): 1000 * n for n in (1, 2, 3)}
FIRST, SECOND, THIRD = PAYMENTS
VERSIONS = 4


def message(payment_id, version, *, paid, cancel_due=False, booking_id=SALE.booking_id):
    """One message of `payments.events`; of the same payment and version it is the same event, wherever it lies."""
    event = payment_event(
        SALE,
        "payment.updated",
        cause=f"evt_{version}",
        at=AT,
        payment_id=uuid.UUID(payment_id),
        booking_id=uuid.UUID(booking_id),
        version=version,
        paid=paid,
        cancel_due=cancel_due,
        amount_minor=PAYMENTS[payment_id],
    )
    return Bookings().judge(record(event, topic="payments.events", key=payment_id.encode()))


def standing(status=Status.PENDING, *, over=False):
    """What the database knows before any message."""
    return LoadedState({SALE.booking_id: Booking(SALE.booking_id, status, None, over)}, {}, {}, {})


def saved(loaded, decided):
    """What the database knows afterwards."""
    payments = {booking_id: dict(known) for booking_id, known in loaded.payments.items()}
    for (booking_id, payment_id), known in decided.payments.items():
        payments.setdefault(booking_id, {})[payment_id] = known
    return LoadedState(
        {**loaded.bookings, **decided.bookings}, payments, {**decided.versions}, {**loaded.known, **decided.entries}
    )


@st.composite
def lives(draw):
    """What the messages of each payment say, and a delivery: every one of them at least once, in any order and batches.

    A payment is paid from one version on and fully given back from another, perhaps an earlier one; both stay.
    """
    told = {}
    for payment_id in draw(st.sampled_from([[FIRST], [FIRST, SECOND], list(PAYMENTS)])):
        paid_from, due_from = draw(st.integers(1, VERSIONS + 1)), draw(st.integers(1, VERSIONS + 1))
        told[payment_id] = [(v, v >= paid_from, v >= due_from) for v in range(1, VERSIONS + 1)]
    every = [(payment_id, *state) for payment_id, states in told.items() for state in states]
    copies = draw(st.lists(st.sampled_from(every), max_size=6))
    items = [message(p, v, paid=paid, cancel_due=due) for p, v, paid, due in draw(st.permutations(every + copies))]
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(items)), max_size=4))), len(items)]
    batches = [items[start:end] for start, end in itertools.pairwise(cuts)]
    return SimpleNamespace(last={payment_id: states[-1] for payment_id, states in told.items()}, batches=batches)


def lived(loaded, batches):
    """What the database knows in the end, and all that was decided on the way."""
    steps = []
    for batch in batches:
        steps.append(decide(loaded, batch, at=AT))
        loaded = saved(loaded, steps[-1])
    return loaded, steps


def story_of(steps):
    """The events that were published, each once, by the numbers of the booking's changes."""
    published = {emitted.event for step in steps for emitted in step.emitted}
    return sorted(map(messages.booking_changes.decode, published), key=lambda change: change.data.version)


@given(life=lives(), start=st.sampled_from(Status))
def test_any_order_and_any_copies_tell_a_story_that_the_oracle_allows(life, start):
    """The newest word about each payment is remembered; what was told leads to where the booking stands; nothing is missing."""
    end, steps = lived(standing(start), life.batches)
    booking, known = end.bookings[SALE.booking_id], end.payments[SALE.booking_id]
    story = story_of(steps)
    truths = {p: oracle.Truth({"paid": paid, "cancel_due": due}, None, closed=False) for p, (_, paid, due) in life.last.items()}
    told = [oracle.Told(change.name, str(change.data.payment_id), change.data.reason) for change in story]

    judged = oracle.follow(oracle.Booking(SALE.booking_id, str(start)), truths, told)

    assert judged.complaints == []
    assert (str(booking.status), booking.payment_id) == (judged.status, judged.payment_id)
    assert {p: (one.version, one.paid, one.cancel_due) for p, one in known.items()} == life.last


@given(life=lives(), start=st.sampled_from(Status))
def test_what_is_told_is_numbered_without_a_gap_and_names_its_own_payment_s_money(life, start):
    """Each event shows how the booking stood after it, and stands in the inbox and in the log as often as it happened: once."""
    end, steps = lived(standing(start), life.batches)
    story = story_of(steps)
    changes = [change.data for change in story]

    assert [change.version for change in changes] == list(range(1, len(story) + 1))
    assert end.versions.get(SALE.booking_id, 0) == len(story)
    assert all(change.amount_minor == PAYMENTS[str(change.payment_id)] for change in changes)
    assert not changes or changes[-1].status == str(end.bookings[SALE.booking_id].status)
    assert sorted(event for entry in end.known.values() for event in entry.emitted) == sorted(
        {emitted.event for step in steps for emitted in step.emitted}
    )
    assert [(one.name, one.payment_id, one.reason) for step in steps for one in step.reports] == [
        (change.name, str(change.data.payment_id), change.data.reason) for change in story
    ]


@given(life=lives(), start=st.sampled_from(Status))
def test_whatever_is_delivered_again_publishes_the_same_bytes_and_writes_nothing(life, start):
    """Whoever took it first may have died between its commit and its publishing; by now it is later."""
    end, steps = lived(standing(start), life.batches)
    again = decide(end, [item for batch in life.batches for item in batch], at=LATER)

    assert (again.bookings, again.payments, again.entries, again.attention, again.reports) == ({}, {}, {}, [], [])
    assert again.versions == end.versions
    assert {emitted.event for emitted in again.emitted} == {emitted.event for step in steps for emitted in step.emitted}


@given(life=lives(), start=st.sampled_from(Status), over=st.booleans())
def test_a_person_is_told_of_each_conflict_and_of_money_after_the_session(life, start, over):
    """And of nothing else: one matter each, about the booking and because of the payment."""
    _, steps = lived(standing(start, over=over), life.batches)
    due = []
    for change in story_of(steps):
        if change.name == "booking.payment_conflict":
            due.append((f"payment_conflict:{change.data.reason}", change.data.payment_id))
        elif change.name == "booking.confirmed" and over and start is Status.PENDING:
            due.append(("paid_after_session", change.data.payment_id))

    assert Counter(matter for step in steps for matter in step.attention) == Counter(
        Matter(reason, f"booking:{SALE.booking_id}", f"payment:{payment_id}") for reason, payment_id in due
    )


def test_the_story_of_one_batch():
    """Confirmed by the first, a conflict with the second, and cancelled when the first one's money went back."""
    story = [
        message(FIRST, 1, paid=True),
        message(SECOND, 1, paid=True),
        message(FIRST, 2, paid=True, cancel_due=True),
        message(THIRD, 1, paid=False),
    ]

    decided = decide(standing(), story, at=AT)

    assert [(one.name, one.payment_id, one.reason) for one in decided.reports] == [
        ("booking.confirmed", FIRST, None),
        ("booking.payment_conflict", SECOND, "already_paid"),
        ("booking.cancelled", FIRST, "refunded"),
    ]
    assert [change.data.status for change in story_of([decided])] == ["confirmed", "confirmed", "cancelled"]
    assert [emitted.by for emitted in decided.emitted] == [item.record for item in story[:3]]
    assert decided.bookings == {SALE.booking_id: Booking(SALE.booking_id, Status.CANCELLED, FIRST)}
    assert [entry.offset for entry in decided.entries.values()] == [item.record.offset for item in story]
    assert decided.payments[SALE.booking_id, SECOND] == PaymentSnapshot(
        SECOND, version=1, paid=True, cancel_due=False, conflict_reason="already_paid"
    )


def test_copies_in_one_batch_are_published_once():
    """Their first one publishes; there is nothing to heal in between."""
    story = [message(FIRST, 1, paid=True), message(FIRST, 2, paid=True, cancel_due=True)]

    assert decide(standing(), [*story, *story], at=AT) == decide(standing(), story, at=AT)


@pytest.mark.parametrize(("other_paid", "told"), [(False, [("booking.cancelled", "refunded", True)]), (True, [])])
def test_a_refund_cancels_what_the_older_application_confirmed_unless_another_payment_is_paid(other_paid, told):
    """It names no payment: the one that is paid holds it. Who cancels it says that its people heard from elsewhere."""
    others = {SALE.booking_id: {SECOND: PaymentSnapshot(SECOND, version=0, paid=other_paid, cancel_due=False)}}
    loaded = replace(standing(Status.CONFIRMED), payments=others)

    decided = decide(loaded, [message(FIRST, 1, paid=True, cancel_due=True)], at=AT)

    story = story_of([decided])
    assert [(change.name, change.data.reason, change.data.confirmed_elsewhere) for change in story] == told


@pytest.mark.parametrize("place", [0, 1])
def test_a_message_of_an_unknown_booking_is_refused_and_stops_nobody(place):
    """It gets no inbox row, so that its replay is no duplicate."""
    stranger = message(SECOND, 1, paid=True, booking_id=str(uuid.UUID(int=9)))
    ours = message(FIRST, 1, paid=True)
    batch = [ours]
    batch.insert(place, stranger)

    decided = decide(standing(), batch, at=AT)

    assert [(one.record, one.reason) for one in decided.refused] == [(stranger.record, "no_such_booking")]
    assert list(decided.entries) == [str(ours.event.id)]
    assert (
        replace(standing().bookings[SALE.booking_id], status=Status.CONFIRMED, payment_id=FIRST)
        == (decided.bookings[SALE.booking_id])
    )
