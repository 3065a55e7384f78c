"""All of a payment went back: who is told of it, with the cancellation or, where none follows, by a letter of its own."""

import pytest

from deploy.dev.mailbox import open_mailbox
from tests.support.builders import Sale, insert_sales
from tests.support.consumers import walking
from tests.support.database import query

ENDED = ("cancelled", "completed")
REFUNDS = "select state, reason from letters where kind = 'refund'"


@pytest.fixture
async def walk(engine, tmp_path):
    async with open_mailbox(tmp_path) as mailbox, walking(engine, mailbox) as walk:
        yield walk


@pytest.fixture
async def sale(walk, engine):
    """Paid, confirmed, and both have their letters; the mailbox is empty again."""
    one = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, one)
    await walk.stripe_says(one.succeeded(), one.completed())
    walk.mailbox.store.clear()
    return one


def failed(refund):
    return {**refund, "type": "refund.failed", "data": {"object": refund["data"]["object"] | {"status": "failed"}}}


def subjects(mailbox):
    return sorted(letter.subject for letter in mailbox.letters)


async def test_a_refund_that_cancels_the_booking_is_told_by_the_cancellation_alone(walk, engine, sale):
    """The refund's own letter waits until the bookings consumer has decided, and is not sent."""
    await walk.stripe_says(sale.refund(), sale.refunded())

    assert subjects(walk.mailbox) == [
        "Booking Cancelled: Session with Ada Lovelace",
        "Booking Cancelled: Session with Grace Hopper",
    ]
    assert len(walk.email.published.incoming("email.retry.1s")) == 1
    assert await query(engine, REFUNDS) == [("suppressed", "cancellation_tells")]
    assert await query(engine, "select cancelled_booking from booking_payments") == [(True,)]


@pytest.mark.parametrize("status", ENDED)
async def test_a_refund_after_the_booking_ended_has_a_letter_of_its_own(walk, engine, sale, status):
    """It was called off in the app, or took place, and the money went back in Stripe's dashboard: only this letter tells."""
    await query(engine, "update bookings set status = $1::text::bookingstatus", status)
    await walk.stripe_says(sale.refund(), sale.refunded(), sale.refunded())

    [letter] = walk.mailbox.letters
    assert letter.subject == "Refund: $75.00 for your session with Grace Hopper"
    assert "Your payment for the coaching session with Grace Hopper has been refunded." in letter.text
    assert ("Nothing else about your booking changes." in letter.text) == (status == "completed")
    assert await query(engine, REFUNDS) == [("sent", None)]
    assert await query(engine, "select cancelled_booking from booking_payments") == [(False,)]


async def test_the_last_of_several_parts_is_told_as_all_of_it(walk, engine, sale):
    """The booking ended before: a letter for the part, and one that names the whole sum."""
    await query(engine, "update bookings set status = 'completed'")
    await walk.stripe_says(sale.refund(3700), sale.refunded(3700), sale.refund(3800, refund_id="re_2"), sale.refunded())

    assert [letter.subject.partition(" for")[0] for letter in walk.mailbox.letters] == ["Refund: $37.00", "Refund: $75.00"]


@pytest.mark.parametrize("status", ENDED)
async def test_a_refund_that_failed_before_its_letter_could_leave_is_not_told(walk, engine, sale, status):
    """What a letter says is asked again when it is sent."""
    await query(engine, "update bookings set status = $1::text::bookingstatus", status)
    await walk.stripe_says(failed(sale.refund()), sale.refunded())

    assert walk.mailbox.letters == []


async def test_what_was_refunded_before_anybody_noted_what_came_of_it_is_not_told_anew(walk, engine, sale):
    """A dispute about a payment that an earlier release saw refunded brings its state once more, and no letter."""
    await walk.stripe_says(sale.refund(), sale.refunded())
    walk.mailbox.store.clear()
    await query(engine, "update booking_payments set cancelled_booking = null")
    await query(engine, "delete from letters where kind = 'refund'")
    await walk.stripe_says(sale.dispute())

    assert walk.mailbox.letters == []
    assert await query(engine, REFUNDS) == [("suppressed", "cancellation_tells")]
