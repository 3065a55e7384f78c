"""All of a payment went back: who is told of it, with the cancellation or, where none follows, by a letter of its own."""

import uuid

import pytest

from consumers.email import store
from consumers.email.store import ClaimWrite
from deploy.dev.mailbox import Fault, Switches, open_mailbox
from shared.kafka.records import Incoming
from tests.support.builders import Sale, insert_sales, record
from tests.support.consumers import walking
from tests.support.database import query
from tests.support.letters import address

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


CANCELLED = "Booking Cancelled: Session with Grace Hopper"
REFUNDED = "Refund: $75.00 for your session with Grace Hopper"
TELLS = ("suppressed", "cancellation_tells")
# What became of the client's confirmation, what the client then gets, and what the ledger has of the refund's letter.
FATES = {
    "accepted": ([CANCELLED], TELLS),
    "died": ([REFUNDED], ("sent", None)),
    "died, and may have been accepted": ([CANCELLED], TELLS),
    "was still being retried": ([], ("suppressed", "confirmation_not_sent")),
}
ANSWERS = {"died": 550, "died, and may have been accepted": 550, "was still being retried": 452}


async def confirmed(walk, engine, fate):
    """A sale that is paid and confirmed, with this fate of the client's confirmation; the mail server takes everything now."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    if fate in ANSWERS:
        fault = Fault(at="rcpt", what=ANSWERS[fate], recipient=address(sale, "client"))
        await walk.mailbox.switch(Switches(faults=(fault,)))
    await walk.stripe_says(sale.succeeded())
    if fate == "died, and may have been accepted":
        await query(engine, "update letters set possible_duplicates = 1 where role = 'client'")
    await walk.mailbox.switch(Switches())
    walk.mailbox.store.clear()
    return sale


def incoming(published, begun):
    return [Incoming(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(published.records[begun:], start=begun)]


class Messages:
    """The messages of one full refund, each taken by one consumer at a time."""

    def __init__(self, walk, of_payment):
        self._walk, self._of_payment, self._of_booking = walk, of_payment, []
        self._tickets_taken = len(walk.email.published.records)

    async def bookings(self):
        """The bookings consumer follows the payment."""
        begun = len(self._walk.published.records)
        await self._walk.bookings.handle(self._of_payment)
        self._of_booking += incoming(self._walk.published, begun)

    async def email_of_payment(self):
        """The email consumer enters the refund's letter, and judges it."""
        await self._walk.email.payments.handle(self._of_payment)

    async def email_of_booking(self, *, dies=False):
        """The email consumer enters the cancellations and judges them, unless it dies in between."""
        handler = self._walk.email.changes
        await (handler._batches if dies else handler).handle(self._of_booking)

    async def look(self):
        """The tickets that came since are read."""
        tickets = incoming(self._walk.email.published, self._tickets_taken)
        self._tickets_taken += len(tickets)
        await self._walk.email.retries.handle([one for one in tickets if one.topic.startswith("email.retry.")])

    async def settle(self):
        """Every ticket is read, those of before once more, until none follows."""
        self._tickets_taken = 0
        for _ in range(5):
            await self.look()
        assert len(self._walk.email.published.records) == self._tickets_taken


async def refund(walk, sale):
    begun = len(walk.published.records)
    await walk.payments.handle([record(sale.refunded())])
    return Messages(walk, incoming(walk.published, begun))


def told_client(walk):
    return [letter.subject for letter in walk.mailbox.letters if letter.to[0].startswith("client")]


ORDERS = {
    "before the booking followed": ("email_of_payment", "bookings", "look", "email_of_booking"),
    "before the cancellation was read": ("bookings", "email_of_payment", "look", "email_of_booking"),
    "after the cancellation": ("bookings", "email_of_booking", "email_of_payment"),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("fate", FATES)
async def test_a_full_refund_that_cancels_the_booking_is_told_once_in_whichever_order(walk, engine, fate, order):
    """The client whose confirmation died has paid, and hears of the money alone; each message and ticket comes twice."""
    sale = await confirmed(walk, engine, fate)
    messages = await refund(walk, sale)
    for step in order:
        await getattr(messages, step)()
        await getattr(messages, step)()
    await messages.settle()
    await messages.email_of_payment()

    subjects, row = FATES[fate]
    assert told_client(walk) == subjects
    assert await query(engine, REFUNDS) == [row]
    assert len(walk.mailbox.letters) == len(subjects) + 1  # the coach was confirmed, and gets the cancellation
    assert walk.email.published.to("email.dlt")[1:] == []


@pytest.mark.parametrize(("fate", "dies_before_refund"), [(fate, dies) for fate in FATES for dies in (True, False)])
async def test_a_full_refund_is_told_once_though_the_email_consumer_died_between_entering_and_sending(
    walk, engine, fate, dies_before_refund
):
    """The cancellations are entered, and judged by nobody yet, when the refund's letter is."""
    messages = await refund(walk, await confirmed(walk, engine, fate))
    await messages.bookings()
    if dies_before_refund:
        await messages.email_of_booking(dies=True)
        await messages.email_of_payment()
    else:
        await messages.email_of_payment()
        await messages.email_of_booking(dies=True)
    await messages.settle()
    await messages.email_of_booking()
    await messages.email_of_payment()

    subjects, row = FATES[fate]
    assert told_client(walk) == subjects
    assert await query(engine, REFUNDS) == [row]


async def test_a_full_refund_is_told_long_after_the_confirmation_died(walk, engine):
    """Its messages come a week later."""
    sale = await confirmed(walk, engine, "died")
    await query(engine, "update letters set queued_at = now() - interval '7 days', updated_at = now() - interval '7 days'")
    await walk.stripe_says(sale.refunded())

    assert told_client(walk) == [REFUNDED]
    [letter] = [letter for letter in walk.mailbox.letters if letter.subject == REFUNDED]
    assert "has been refunded" in letter.text
    assert "Nothing else about your booking changes." not in letter.text


@pytest.mark.parametrize(("end", "subjects", "row"), [("sent", [CANCELLED], TELLS), ("dead", [REFUNDED], ("sent", None))])
async def test_a_full_refund_waits_for_a_confirmation_in_flight(walk, engine, end, subjects, row):
    """Another sender has begun DATA: whether the cancellation tells of the refund is known when that has ended."""
    sale = await confirmed(walk, engine, "accepted")
    [(letter_id,)] = await query(engine, "select id from letters where kind = 'confirmation' and role = 'client'")
    async with engine.begin() as tx:
        token = uuid.uuid4()
        await store.claim(tx, [ClaimWrite(letter_id, token, 0, maybe_sent=False)])
        await store.hand_over(tx, [(letter_id, token)])
    messages = await refund(walk, sale)
    await messages.bookings()
    await messages.email_of_booking()
    await messages.email_of_payment()
    assert told_client(walk) == []

    await query(engine, "update letters set state = $1, lease_until = null where id = $2", end, letter_id)
    await messages.settle()

    assert told_client(walk) == subjects
    assert await query(engine, REFUNDS) == [row]
