"""The comparison of a simulation: books that agree have no difference, and each mistake that is planted is found."""

import json
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.email.kinds import Kind
from deploy.dev.simulation import letters, outcomes, told, wording
from deploy.dev.simulation.letters import Accepted
from deploy.dev.simulation.rows import Matter, Rows, Waiting
from deploy.dev.simulation.rows import Refund as KeptRefund
from tests.support.simulated import KINDS, PAID, Told, all_told


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=6))
def test_books_that_agree_have_no_difference(kinds):
    """Whatever happened, as long as all three tell the same."""
    world = all_told(*kinds)

    assert world.differences() == []
    assert outcomes.count(world.papers, world.rows).total() == len(kinds)


def first(rows, **changed):
    return (replace(rows[0], **changed), *rows[1:])


def telling(world, **changed):
    return replace(world, payments={one: data | changed for one, data in world.payments.items()})


def followed(world, status):
    return replace(world, bookings={one: {"status": status} for one in world.bookings})


def showing(world, **changed):
    return replace(world, shown={one: answer | changed for one, answer in world.shown.items()})


STATUSES = ["pending", "succeeded", "failed", "refunded"]
# What is planted into our side, or into Stripe's: the kinds of booking that can have it, what is done, what is told of it.
PLANTED = {
    "a payment is lost": (PAID, lambda w: w.having(payments=()), "session"),
    "a payment too many": (["untouched"], lambda w: w.having(payments=all_told("paid").rows.payments), "payment"),
    "paid, and not told": (["paid"], lambda w: w.having(payments=first(w.rows.payments, status="pending")), "status"),
    "a late decline": (PAID, lambda w: w.having(payments=first(w.rows.payments, status="failed")), "status"),
    "told, and not paid": (["declined"], lambda w: w.having(payments=first(w.rows.payments, status="succeeded")), "status"),
    "an expiry is lost": (["expired"], lambda w: w.having(payments=first(w.rows.payments, status="pending")), "status"),
    "a cent too much": (PAID, lambda w: w.having(payments=first(w.rows.payments, amount_minor=6001)), "amount asked"),
    "another currency": (PAID, lambda w: w.having(payments=first(w.rows.payments, currency="EUR")), "price of the booking"),
    "another session": (PAID, lambda w: w.having(payments=first(w.rows.payments, session_id="cs_x")), "session"),
    "a session unbound": (PAID, lambda w: w.having(payments=first(w.rows.payments, session_id=None)), "session"),
    "another intent": (PAID, lambda w: w.having(payments=first(w.rows.payments, intent_id="pi_x")), "intent"),
    "less refunded": (["refunded_in_part"], lambda w: w.having(payments=first(w.rows.payments, refunded_minor=0)), "refunded"),
    "a refund is lost": (["refunded_in_part"], lambda w: w.having(refunds=()), "refund"),
    "a refund of nobody": (PAID, lambda w: w.having(refunds=(KeptRefund("re_x", "p", "succeeded", 1),)), "refund"),
    "a refund that waits": (
        ["refunded_in_part"],
        lambda w: w.having(refunds=first(w.rows.refunds, status="pending")),
        "refund",
    ),
    "a dispute is lost": (["disputed"], lambda w: w.having(disputes=()), "dispute"),
    "a dispute goes on": (
        ["dispute_lost"],
        lambda w: w.having(disputes=first(w.rows.disputes, status="needs_response")),
        "dispute",
    ),
    "nobody is told": (
        ["disputed", "dispute_lost", "came_back", "refund_failed_in_part", "paid_twice"],
        lambda w: w.having(matters=()),
        "matter for a person",
    ),
    "told for nothing": (
        ["paid"],
        lambda w: w.having(matters=(Matter("amount_mismatch", f"payment:{w.rows.payments[0].id}"),)),
        "matter for a person",
    ),
    "an event waits": (PAID, lambda w: w.having(waiting=(Waiting("evt_1", "pi_000"),)), "event that waits"),
    "not confirmed": (PAID, lambda w: w.having(bookings=first(w.rows.bookings, status="pending", payment_id=None)), "booking"),
    "held by another": (PAID, lambda w: w.having(bookings=first(w.rows.bookings, payment_id=str(uuid.uuid4()))), "booking"),
    "confirmed for nothing": (["declined"], lambda w: w.having(bookings=first(w.rows.bookings, status="confirmed")), "booking"),
    "cancelled for a part": (
        ["refunded_in_part"],
        lambda w: w.having(bookings=first(w.rows.bookings, status="cancelled")),
        "booking",
    ),
    "not cancelled": (["came_back"], lambda w: w.having(bookings=first(w.rows.bookings, status="confirmed")), "booking"),
    "the booking is lost": (["paid"], lambda w: w.having(bookings=()), "booking"),
    "charged twice": (
        ["paid"],
        lambda w: replace(w, papers=first(w.papers, charges=w.papers[0].charges * 2)),
        "money taken",
    ),
    "two sessions of one payment": (
        ["paid"],
        lambda w: replace(w, papers=(*w.papers, replace(w.papers[0], session=replace(w.papers[0].session, id="cs_x")))),
        "session",
    ),
    "a letter is lost": (PAID, lambda w: w.having(letters=w.rows.letters[1:]), "letters to client"),
    "a letter is dead": (PAID, lambda w: w.having(letters=first(w.rows.letters, state="dead")), "confirmation to client"),
    "confirmed, and not cancelled to": (["came_back"], lambda w: w.having(letters=w.rows.letters[:-1]), "letters to coach"),
    "a failure not told": (["debit_sent_back"], lambda w: w.having(letters=()), "payment_failed to client"),
    "a refund not told": (["refunded_in_part"], lambda w: w.having(letters=w.rows.letters[:-1]), "refund to client"),
    "a refund told twice": (
        ["refunded_in_parts"],
        lambda w: replace(
            w.having(
                letters=(
                    *w.rows.letters,
                    replace(w.rows.letters[0], kind="refund", cause=f"{w.rows.payments[0].id}/6000", message_id="<r>"),
                )
            ),
            mailbox=(*w.mailbox, replace(w.mailbox[0], message_id="<r>")),
        ),
        "refund to client",
    ),
    "a letter of a kind that nobody judges": (
        PAID,
        lambda w: replace(
            w.having(letters=(*w.rows.letters, replace(w.rows.letters[0], kind="receipt", message_id="<r>"))),
            mailbox=(*w.mailbox, replace(w.mailbox[0], message_id="<r>")),
        ),
        "receipt to client",
    ),
    "sent, and not there": (PAID, lambda w: replace(w, mailbox=w.mailbox[1:]), "confirmation to client"),
    "sent twice": (PAID, lambda w: replace(w, mailbox=(*w.mailbox, w.mailbox[0])), "confirmation to client"),
    "sent to another": (
        PAID,
        lambda w: replace(w, mailbox=first(w.mailbox, to=w.mailbox[1].to)),
        "confirmation to client",
    ),
    "a letter from nowhere": (
        PAID,
        lambda w: replace(w, mailbox=(*w.mailbox, Accepted("<x>", w.mailbox[0].to, ""))),
        "letter <x>",
    ),
    "a letter of another booking": (
        PAID,
        lambda w: replace(w, mailbox=first(w.mailbox, text=f"Booking ID: {uuid.uuid4()}")),
        "confirmation to client",
    ),
    "a letter of another price": (
        PAID,
        lambda w: replace(w, mailbox=first(w.mailbox, text="Payment: $600.00")),
        "confirmation to client",
    ),
    "a letter of another currency": (
        PAID,
        lambda w: replace(w, mailbox=first(w.mailbox, text="Payment: €60.00")),
        "confirmation to client",
    ),
    "a refund without its amount": (
        ["refunded_in_part"],
        lambda w: replace(w, mailbox=(*w.mailbox[:-1], replace(w.mailbox[-1], text="You had paid: $60.00"))),
        "refund to client",
    ),
    "others are not told of a payment": ([*PAID, "declined"], lambda w: replace(w, payments={}), "payments.events"),
    "others are told of a late decline": (PAID, lambda w: telling(w, status="failed"), "payments.events"),
    "others are not told of a refund": (
        ["refunded_in_part"],
        lambda w: telling(w, amount_refunded_minor=0),
        "payments.events",
    ),
    "others are told to cancel for a part": (["refunded_in_part"], lambda w: telling(w, cancel_due=True), "payments.events"),
    "others are not told of a dispute": (["disputed"], lambda w: telling(w, dispute_open=False), "payments.events"),
    "others are not told of its end": (["dispute_lost"], lambda w: telling(w, dispute_open=True), "payments.events"),
    "others are told to free a paid slot": (PAID, lambda w: telling(w, slot_free=True), "payments.events"),
    "others are not told of a booking": (PAID, lambda w: replace(w, bookings={}), "bookings.events"),
    "others are not told that it is off": (["came_back"], lambda w: followed(w, "confirmed"), "bookings.events"),
    "a refund is not shown": (["refunded_in_parts"], lambda w: showing(w, status="succeeded"), "GET /payment"),
    "an amount is shown tenfold": (PAID, lambda w: showing(w, amount="600.00"), "GET /payment"),
    "a payment is not shown": (PAID, lambda w: replace(w, shown={w.rows.payments[0].id: {"code": "gone"}}), "GET /payment"),
}


@pytest.mark.parametrize("name", PLANTED)
@settings(max_examples=15)  # of each mistake
@given(data=st.data())
def test_each_planted_mistake_is_found(name, data):
    """Among any bookings that agree, the one that does not is named, with the command that explains it."""
    kinds, plant, what = PLANTED[name]
    kind = data.draw(st.sampled_from(kinds))
    broken = plant(all_told(kind))
    # The bookings around it take the numbers after it, so that nothing of theirs is hit.
    around = all_told("untouched", *data.draw(st.lists(st.sampled_from(KINDS), max_size=3)))
    names = ("bookings", "payments", "refunds", "disputes", "matters", "letters", "waiting")
    both = Rows(**{one: getattr(broken.rows, one) + getattr(around.rows, one) for one in names})
    mine = all_told(kind)
    whole = Told(
        broken.papers + around.papers,
        replace(both, bookings=broken.rows.bookings + around.rows.bookings[1:]),
        broken.mailbox + around.mailbox,
        around.prices | mine.prices,
        around.addresses | mine.addresses,
        around.payments | broken.payments,
        around.bookings | broken.bookings,
        around.shown | broken.shown,
    )

    found = whole.differences()

    assert what in {one.what for one in found}
    assert all(one.ask.startswith("cb-ops why ") for one in found)
    assert all("000" in one.ask or one.ask.split()[-1] in f"{mine.papers}{mine.rows}{broken}" for one in found)


def test_every_kind_of_letter_is_judged():
    """Of one that is new each simulation would say only that it is new, and nothing of those that are missing."""
    assert set(Kind) == letters.JUDGED


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", ["opened", "declined", "paid", "refunded_in_parts"])
def test_each_status_has_one_answer(kind, status):
    """Only what Stripe's objects mean fits."""
    world = all_told(kind)
    said = world.having(payments=first(world.rows.payments, status=status)).differences()

    assert ("status" in {one.what for one in said}) == (status != world.rows.payments[0].status)


def test_the_greatest_version_counts():
    """In whatever order messages lie, and however often."""
    values = [
        json.dumps({"subject": subject, "data": {"version": version, "status": f"{subject}{version}"}}).encode()
        for subject, version in (("a", 2), ("b", 1), ("a", 3), ("a", 1), ("b", 1))
    ]

    assert {one: data["status"] for one, data in told.newest(values).items()} == {"a": "a3", "b": "b1"}
    assert told.newest([]) == {}


@pytest.mark.parametrize(
    ("text", "price", "refunded_minor", "untrue"),
    [
        ("Refund: \N{YEN SIGN}1,500 of \N{YEN SIGN}12,000, 90 minutes, 18:30", (12000, "JPY"), 1500, []),
        ("KWD\N{NO-BREAK SPACE}7.500 of KWD 1,017.500", (1017500, "KWD"), 7500, []),
        (
            "KWD\N{NO-BREAK SPACE}75.00 of KWD 1,017.500",
            (1017500, "KWD"),
            7500,
            ["tells of KWD75.00", "does not tell the amount"],
        ),
        ("Thank you!", (6000, "USD"), None, []),
        ("$60.00 and $0.60", (6000, "USD"), None, ["tells of $0.60"]),
    ],
)
def test_amounts_are_read_in_every_currency(text, price, refunded_minor, untrue):
    """As letters spell them; hours, minutes and dates are no amounts."""
    assert list(wording.untrue(text, "b", price, refunded_minor)) == untrue
