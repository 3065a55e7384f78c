"""What an earlier, synchronous application did wrong with Stripe's events, from the event to the ledger of letters."""

import itertools

import pytest

from tests.support.builders import Sale, insert_sales

CONFIRMED = [("confirmation", "client", "queued"), ("confirmation", "coach", "queued")]


async def test_a_success_before_its_session_is_neither_refused_nor_kept_waiting(chain, sale):
    """The intent names our payment by itself: confirmed at once, and the session that follows adds nothing."""
    await chain.tell(sale.succeeded())
    assert await chain.booking(sale.booking_id) == ("confirmed", sale.payment_id)
    assert await chain.sql("select count(*) from waiting_events") == [(0,)]

    await chain.tell(sale.completed())

    assert [name for name, *_ in chain.bookings()] == ["booking.confirmed"]
    assert await chain.letters() == CONFIRMED


async def test_a_session_without_metadata_never_loses_its_payment(chain, sale):
    """What it refers to is enough, also before our row knows the session; then what names only its intent is known too."""
    await chain.sql("update payments set stripe_session_id = null")
    await chain.tell(sale.completed(metadata={}))
    assert await chain.booking(sale.booking_id) == ("confirmed", sale.payment_id)

    await chain.tell(sale.refunded())

    assert (await chain.payment(sale.payment_id))[0] == "refunded"


async def test_a_decline_in_checkout_is_never_lost_and_never_turns_a_success_into_a_failure(chain, sale):
    """Known at once by its metadata; once another card has paid, it and any other late failure change nothing that counts."""
    decline = sale.declined()
    await chain.tell(decline)
    assert (await chain.payment(sale.payment_id))[0] == "failed"
    await chain.tell(sale.succeeded())
    late = [
        decline,
        sale.declined("fraudulent"),
        sale.declined(status="canceled") | {"type": "payment_intent.canceled"},
        sale.completed(status="expired", payment_status="unpaid") | {"type": "checkout.session.expired"},
        sale.completed(payment_status="unpaid") | {"type": "checkout.session.async_payment_failed"},
    ]
    for event in late:
        await chain.tell(event)
        assert (await chain.payment(sale.payment_id))[0] == "succeeded"

    assert await chain.booking(sale.booking_id) == ("confirmed", sale.payment_id)
    assert [name for name, *_ in chain.bookings()] == ["booking.confirmed"]
    assert await chain.letters() == CONFIRMED


async def test_a_stale_success_after_a_refund_never_sets_payment_or_booking_back(chain, sale):
    """In every order: given back in full is given back, and its booking is cancelled."""
    ends = set()
    for order in itertools.permutations(range(3)):
        one = Sale()
        async with chain.engine.begin() as tx:
            await insert_sales(tx, one)
        events = [one.succeeded(), one.refunded(), one.completed()]
        for position in (*order, 0):
            await chain.tell(events[position])
        ends.add(((await chain.payment(one.payment_id))[0], (await chain.booking(one.booking_id))[0]))

    assert ends == {("refunded", "cancelled")}


@pytest.mark.parametrize("amount_minor", [1, 7499])
async def test_a_cent_of_goodwill_never_cancels_a_booking(chain, sale, amount_minor):
    """Part of the money went back: the amount is told, the payment is still paid, the booking stands."""
    await chain.tell(sale.succeeded())
    await chain.tell(sale.refund(amount_minor), sale.refunded(amount_minor))

    assert await chain.payment(sale.payment_id, "status::text, amount_refunded_minor") == ("succeeded", amount_minor)
    assert await chain.booking(sale.booking_id) == ("confirmed", sale.payment_id)
    assert [name for name, *_ in chain.bookings()] == ["booking.confirmed"]


async def test_money_after_a_cancellation_never_confirms_the_cancelled_booking(chain, sale):
    """Its slot may have been sold to somebody else; another payment of it revives it as little."""
    await chain.sql("update bookings set status = 'cancelled'")
    await chain.tell(sale.completed(), sale.succeeded())

    assert await chain.booking(sale.booking_id) == ("cancelled", None)
    assert await chain.letters() == []
