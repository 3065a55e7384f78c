"""A booking's payments from the first checkout to the last event: what closes one, what opens another, what is real money."""

from asyncio import gather
from dataclasses import dataclass

import pytest

from ingress import store
from ingress.access import Caller
from ingress.checkout import Checkout, Opened
from ingress.checkout_rules import CheckoutParams
from tests.support.builders import Sale
from tests.support.chain import Chain
from tests.support.door import URLS, ingress_settings, meeting
from tests.support.fake_stripe import FakeStripe

SHOWN = "status::text, closed_at is not null, closed_reason, slot_free"


class Shop:
    """A booking, its client who checks out, Stripe behind it, and the consumers that hear of it."""

    def __init__(self, engine, booked, story, stripe):
        self.booking_id, self.client, self.stripe = booked.booking_id, Caller(booked.client.id, "client"), stripe
        self.chain, self._story = Chain(engine), story

    async def checkout(self):
        return await self._story.open(self.client, CheckoutParams(self.booking_id, *URLS.values(), key=None))

    async def opened(self):
        """Check out, and give the sale by which Stripe will speak of it."""
        made = await self.checkout()
        assert isinstance(made, Opened), made
        return Sold(payment_id=str(made.payment.id), booking_id=str(self.booking_id), session=made.session_id)

    async def refusal(self):
        made = await self.checkout()
        return made.code, made.members.get("url")

    async def shown(self, sale):
        return await self.chain.payment(sale.payment_id, SHOWN)

    async def time_passes(self):
        """Every session's end lies behind us."""
        await self.chain.sql("update payments set expires_at = expires_at - interval '1 day'")


@dataclass(frozen=True)
class Sold(Sale):
    """A sale whose session was made by checkout, and the events that end it unpaid."""

    session: str = ""

    @property
    def session_id(self):
        return self.session

    def expired(self):
        return self.unpaid("checkout.session.expired", status="expired", payment_intent=None)

    def async_failed(self):
        return self.unpaid("checkout.session.async_payment_failed", status="complete")

    def canceled(self):
        return self.declined(status="canceled", last_payment_error=None) | {"type": "payment_intent.canceled"}

    def unpaid(self, kind, **changes):
        return self.completed(payment_status="unpaid", **changes) | {"type": kind}


@pytest.fixture
async def shop(engine, database):
    stripe = FakeStripe()
    booked = await meeting(engine)
    return Shop(engine, booked, Checkout(engine, stripe, ingress_settings(database)), stripe)


ENDS = {"expired": Sold.expired, "canceled": Sold.canceled, "async_failed": Sold.async_failed}


@pytest.mark.parametrize("reason", ENDS)
async def test_what_ended_unpaid_never_blocks_its_booking(shop, reason):
    """Closed by Stripe's own event: the booking stays pending, its slot may go, and the next checkout makes another row."""
    first = await shop.opened()
    await shop.chain.tell(ENDS[reason](first))
    assert await shop.shown(first) == ("failed", True, reason, True)
    assert (await shop.chain.booking(shop.booking_id))[0] == "pending"

    second = await shop.opened()

    assert second.payment_id != first.payment_id
    assert second.session_id != first.session_id
    assert await shop.shown(first) == ("failed", True, reason, True)
    assert await shop.shown(second) == ("pending", False, None, False)
    await shop.chain.tell(second.succeeded())
    assert await shop.chain.booking(shop.booking_id) == ("confirmed", second.payment_id)


async def test_a_full_refund_never_blocks_a_booking_that_is_sold_again(shop):
    """It closes its row and cancels the booking; should the booking wait for a payment again, it gets another row."""
    first = await shop.opened()
    await shop.chain.tell(first.succeeded(), first.refunded())
    assert await shop.shown(first) == ("refunded", True, "refunded", False)
    assert (await shop.chain.booking(shop.booking_id))[0] == "cancelled"
    assert await shop.refusal() == ("booking_not_pending", None)
    await shop.chain.sql("update bookings set status = 'pending', payment_id = null")

    second = await shop.opened()

    assert second.payment_id != first.payment_id


async def test_a_partial_refund_never_opens_a_second_payment(shop):
    """The payment is still paid, whatever the booking says meanwhile."""
    sale = await shop.opened()
    await shop.chain.tell(sale.succeeded(), sale.refunded(2500))
    await shop.chain.sql("update bookings set status = 'pending'")

    assert await shop.refusal() == ("payment_already_exists", None)


@pytest.mark.parametrize("forgotten", [False, True], ids=["expired at Stripe", "unknown to Stripe"])
async def test_an_abandoned_booking_is_never_blocked_although_no_webhook_came(shop, forgotten):
    """Past its end Stripe is asked: the row is closed without a reason, another is opened; the late webhook frees no slot."""
    first = await shop.opened()
    await shop.time_passes()
    shop.stripe.expire(first.session_id)
    if forgotten:
        del shop.stripe.sessions[first.session_id]

    second = await shop.opened()

    assert await shop.shown(first) == ("pending", True, None, False)
    assert await shop.shown(second) == ("pending", False, None, False)
    await shop.chain.tell(first.expired())
    assert await shop.shown(first) == ("failed", True, "expired", False)
    assert [event.name for event in shop.chain.payments()] == ["payment.updated"]
    assert await shop.shown(second) == ("pending", False, None, False)


async def test_a_session_that_may_still_be_paid_is_never_given_up(shop):
    """Our clock says over; Stripe says open, or complete: no second URL."""
    sale = await shop.opened()
    await shop.time_passes()
    [url] = shop.stripe.payable()
    assert await shop.refusal() == ("payment_already_exists", url)

    await shop.stripe.pay(shop.stripe.sessions[sale.session_id])

    assert await shop.refusal() == ("payment_already_exists", None)


async def test_a_delayed_payment_under_way_never_sends_its_customer_to_a_page_that_is_over(shop):
    """A debit takes days: the session is complete, the payment pending. Before, a declined card had left the page open."""
    sale = await shop.opened()
    url = shop.stripe.sessions[sale.session_id].url
    await shop.chain.tell(sale.declined())
    assert await shop.refusal() == ("payment_already_exists", url)
    await shop.stripe.pay(shop.stripe.sessions[sale.session_id])
    await shop.chain.tell(sale.unpaid("checkout.session.completed", status="complete"))

    assert await shop.refusal() == ("payment_already_exists", None)


async def test_a_success_after_the_expiry_is_never_lost(shop):
    """Real money: SUCCEEDED and confirmed, the slot is taken back, the row stays closed, and nothing more is sold."""
    first = await shop.opened()
    await shop.chain.tell(first.expired())
    second = await shop.opened()
    await shop.chain.tell(first.succeeded())

    assert await shop.shown(first) == ("succeeded", True, "expired", False)
    assert await shop.chain.booking(shop.booking_id) == ("confirmed", first.payment_id)
    assert [event.data.slot_free for event in shop.chain.payments()] == [True, False]
    assert await shop.refusal() == ("booking_not_pending", None)
    # The second page was open all the while: its money is a conflict, and its refund cancels nothing.
    await shop.chain.tell(second.succeeded())
    await shop.chain.tell(second.refunded())
    assert await shop.chain.booking(shop.booking_id) == ("confirmed", first.payment_id)
    assert shop.chain.bookings()[1:] == [("booking.payment_conflict", "already_paid", second.payment_id)]


async def test_a_success_after_the_expiry_never_lets_a_second_payment_open(shop):
    """The booking has not heard of it yet; the payment has."""
    sale = await shop.opened()
    await shop.chain.tell(sale.expired())
    await shop.chain.sql("update payments set status = 'succeeded', paid = true")

    assert (await shop.refusal())[0] == "payment_already_exists"


async def test_money_that_arrives_while_a_checkout_writes_its_row_never_lets_it_open(shop, monkeypatch):
    """The expired payment succeeds between the look and the insert: no row, no session, and the caller is told."""
    sale = await shop.opened()
    await shop.chain.tell(sale.expired())
    insert = store.insert_payment

    async def insert_later(*arguments):
        await shop.chain.sql("update payments set status = 'succeeded', paid = true")
        return await insert(*arguments)

    monkeypatch.setattr(store, "insert_payment", insert_later)

    assert (await shop.refusal())[0] == "payment_already_exists"
    assert await shop.chain.sql("select id::text from payments") == [(sale.payment_id,)]
    assert list(shop.stripe.sessions) == [sale.session_id]


async def test_a_decline_never_closes_and_a_success_never_closes(shop):
    """The customer goes on at the same page; a paid payment blocks until it is given back in full."""
    sale = await shop.opened()
    [url] = shop.stripe.payable()
    await shop.chain.tell(sale.declined())
    assert await shop.shown(sale) == ("failed", False, None, False)
    assert await shop.refusal() == ("payment_already_exists", url)

    await shop.chain.tell(sale.succeeded())

    assert await shop.shown(sale) == ("succeeded", False, None, False)


async def test_no_letter_and_no_message_tells_the_price_of_another_day(shop):
    """What was fixed at checkout stays, whatever the coach asks for later."""
    sale = await shop.opened()
    await shop.chain.sql("update coach_profiles set hourly_rate = 999, currency = 'EUR'")
    await shop.chain.tell(sale.succeeded())

    assert await shop.chain.sql("select distinct amount_minor, currency from letters") == [(7500, "USD")]
    assert [(event.data.amount_minor, event.data.currency) for event in shop.chain.payments()] == [(7500, "USD")]


CHECKOUT_CLOSES = None  # no event: the door gives the row up
SLOTS = {
    "expired": ((Sold.expired,), True),
    "canceled": ((Sold.canceled,), True),
    "delayed payment failed": ((Sold.async_failed,), True),
    "declined": ((Sold.declined,), False),
    "declined, then expired": ((Sold.declined, Sold.expired), True),
    "expired, then canceled": ((Sold.expired, Sold.canceled), True),
    "paid": ((Sold.succeeded,), False),
    "paid, then expired": ((Sold.succeeded, Sold.expired), False),
    "expired, then paid": ((Sold.expired, Sold.succeeded), False),
    "refunded": ((Sold.succeeded, Sold.refunded), False),
    "refunded, then expired": ((Sold.succeeded, Sold.refunded, Sold.expired), False),
    "closed by checkout": ((CHECKOUT_CLOSES,), False),
    "closed by checkout, then expired": ((CHECKOUT_CLOSES, Sold.expired), False),
    "closed by checkout, then expired and canceled": ((CHECKOUT_CLOSES, Sold.expired, Sold.canceled), False),
    "expired, then closed by checkout": ((Sold.expired, CHECKOUT_CLOSES), True),
}


@pytest.mark.parametrize("life", SLOTS)
async def test_a_slot_is_never_free_but_by_an_unpaid_end_that_closed_the_payment(shop, life):
    """Expiry, cancellation or a failed delayed payment, when that itself closed the row; the message says what the row says."""
    steps, free = SLOTS[life]
    sale = await shop.opened()
    for step in steps:
        if step is CHECKOUT_CLOSES:
            await shop.chain.sql("update payments set closed_at = coalesce(closed_at, now())")
        else:
            await shop.chain.tell(step(sale))

    assert (await shop.shown(sale))[3] is free
    said = shop.chain.payments()
    assert not said or said[-1].data.slot_free is free


@pytest.mark.parametrize("reason", ENDS)
async def test_an_end_that_crosses_a_checkout_never_leaves_the_booking_without_an_open_payment(shop, reason):
    """Stripe's event and the door close the same row at the same moment: one closes it, and the new row stands."""
    for _ in range(5):
        sale = await shop.opened()
        await shop.time_passes()
        shop.stripe.expire(sale.session_id)

        made, _ = await gather(shop.checkout(), shop.chain.tell(ENDS[reason](sale)))

        assert isinstance(made, Opened), made
        status, closed, why, _ = await shop.shown(sale)
        assert (status, closed, why) == ("failed", True, reason)
        assert await shop.chain.sql("select id from payments where closed_at is null") == [(made.payment.id,)]
        await shop.chain.sql("update payments set closed_at = now() where closed_at is null")
