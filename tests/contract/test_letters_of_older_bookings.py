"""Bookings that the older application confirmed: their people hear what becomes of them."""

import uuid

import pytest

from deploy.dev.mailbox import open_mailbox
from shared.db.engine import rows
from tests.support.builders import Sale, insert_sales
from tests.support.consumers import walking
from tests.support.database import query

LETTERS = "select kind, role, state, reason from letters order by kind, role"


@pytest.fixture
async def walk(engine, tmp_path):
    async with open_mailbox(tmp_path) as mailbox, walking(engine, mailbox) as walk:
        yield walk


@pytest.fixture
async def older(engine):
    """Paid and confirmed before this pipeline came: the booking names no payment, and its payment was seeded as paid."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale, booking_status="confirmed")
        await rows(
            tx,
            "update payments set status = 'succeeded', amount_minor = null, amount = 75, stripe_payment_intent_id = $1",
            sale.intent_id,
        )
        await know(tx, sale.payment_id, sale.booking_id)
    return sale


async def know(tx, payment_id, booking_id, *, paid=True, cancel_due=False):
    await rows(
        tx,
        "insert into booking_payments (payment_id, booking_id, version, paid, cancel_due) values ($1, $2, 0, $3, $4)",
        payment_id,
        booking_id,
        paid,
        cancel_due,
    )


async def test_a_full_refund_of_an_older_booking_tells_both_that_it_is_cancelled(walk, engine, older):
    """The older application had confirmed it to them; the ledger of letters says so, and nothing is told twice."""
    for event in (older.refunded(), older.refund(), older.succeeded()):
        await walk.stripe_says(event)

    assert sorted((letter.to[0].partition("-")[0], letter.subject) for letter in walk.mailbox.letters) == [
        ("client", "Booking Cancelled: Session with Grace Hopper"),
        ("coach", "Booking Cancelled: Session with Ada Lovelace"),
    ]
    assert await query(engine, LETTERS) == [
        ("cancellation", "client", "sent", None),
        ("cancellation", "coach", "sent", None),
        ("confirmation", "client", "suppressed", "sent_by_older_application"),
        ("confirmation", "coach", "suppressed", "sent_by_older_application"),
        ("refund", "client", "suppressed", "cancellation_tells"),
    ]


async def test_an_older_booking_that_was_never_confirmed_is_cancelled_in_silence(walk, engine, older):
    """It was still pending: there is no confirmation to take back."""
    await query(engine, "update bookings set status = 'pending'")
    await walk.stripe_says(older.refunded())

    assert await query(engine, "select status::text from bookings") == [("cancelled",)]
    assert walk.mailbox.letters == []


async def test_a_part_that_went_back_of_an_older_payment_tells_the_client(walk, engine, older):
    """The booking names no payment, and no other was paid: this one holds it."""
    await walk.stripe_says(older.refunded(2000))

    assert [letter.subject for letter in walk.mailbox.letters] == ["Refund: $20.00 for your session with Grace Hopper"]
    assert await query(engine, LETTERS) == [("refund", "client", "sent", None)]


@pytest.mark.parametrize("other", ["never paid", "given back", "another booking's"])
async def test_a_payment_that_does_not_hold_an_older_booking_keeps_no_letter_of_the_holders_back(walk, engine, older, other):
    """A card that was declined, a twin whose money went back, a neighbour who is paid: the client hears of the refund."""
    booking_id = uuid.uuid4() if other == "another booking's" else older.booking_id
    async with engine.begin() as tx:
        await know(tx, uuid.uuid4(), booking_id, paid=other != "never paid", cancel_due=other == "given back")
    await walk.stripe_says(older.refunded(2000))

    assert [letter.subject for letter in walk.mailbox.letters] == ["Refund: $20.00 for your session with Grace Hopper"]


@pytest.mark.parametrize("why", ["another is paid", "it came too late"])
async def test_a_part_of_money_that_does_not_hold_an_older_booking_mails_nobody(walk, engine, older, why):
    """Second or late money is a matter for a person, also where the booking names no payment."""
    if why == "another is paid":
        async with engine.begin() as tx:
            await know(tx, uuid.uuid4(), older.booking_id)
    else:
        await query(engine, "update booking_payments set conflict_reason = 'cancelled'")
    await walk.stripe_says(older.refunded(2000))

    assert walk.mailbox.letters == []
    assert await query(engine, LETTERS) == [("refund", "client", "suppressed", "payment_holds_no_booking")]


async def test_a_part_that_went_back_at_once_waits_until_the_booking_has_heard_that_it_is_paid(walk, engine):
    """The older application confirmed the booking unpaid: whether this payment holds it, the bookings consumer says."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale, booking_status="confirmed")
    await walk.stripe_says(sale.refund(2000), sale.refunded(2000), sale.succeeded())

    assert await query(engine, "select payment_id::text from bookings") == [(str(sale.payment_id),)]
    assert ("refund", "client", "sent", None) in await query(engine, LETTERS)


async def test_a_part_that_went_back_of_an_older_booking_that_was_never_confirmed_waits_for_nobody(walk, engine, older):
    """The booking has followed its payment's success, or never will: its client hears of the refund."""
    await query(engine, "update bookings set status = 'pending'")
    await walk.stripe_says(older.refunded(2000))

    assert await query(engine, LETTERS) == [("refund", "client", "sent", None)]
