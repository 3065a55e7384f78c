"""Money that comes for a booking which cannot take it: kept, told to a person once, and nobody is written to."""

from dataclasses import replace

import pytest

from tests.support.builders import Sale
from tests.support.chain import insert_twin


@pytest.fixture
async def twin(engine, sale):
    """A second payment for the same booking."""
    other = Sale()
    made = replace(other, booking_id=sale.booking_id)
    await insert_twin(engine, sale, made)
    return made


CONFIRMATIONS = [("confirmation", "client", "queued"), ("confirmation", "coach", "queued")]


@pytest.mark.parametrize("status", ["cancelled", "completed"])
@pytest.mark.parametrize("one_batch", [True, False])
async def test_money_for_an_ended_booking_never_revives_it_and_mails_nobody(chain, sale, status, one_batch):
    """SUCCEEDED, since the money is real; one conflict with its reason, one matter for a person; no letter."""
    await chain.sql("update bookings set status = $1::text::bookingstatus", status)
    events = [sale.completed(), sale.succeeded(), sale.succeeded(), sale.refunded(2500)]
    for batch in [events] if one_batch else [[event] for event in events]:
        await chain.tell(*batch)

    assert (await chain.payment(sale.payment_id))[0] == "succeeded"
    assert await chain.booking(sale.booking_id) == (status, None)
    assert chain.bookings() == [("booking.payment_conflict", status, sale.payment_id)]
    assert await chain.sql("select reason, aggregate, cause from attention") == [
        (f"payment_conflict:{status}", f"booking:{sale.booking_id}", f"payment:{sale.payment_id}")
    ]
    assert await chain.letters() == []


@pytest.mark.parametrize("one_batch", [True, False])
async def test_a_twin_payment_never_takes_the_booking_over_and_its_refund_leaves_it_confirmed(chain, sale, twin, one_batch):
    """Both paid: the first holds, the second is a conflict; given back, it cancels nothing and mails nobody."""
    events = [sale.succeeded(), twin.succeeded(), twin.completed(), twin.refunded()]
    for batch in [events] if one_batch else [[event] for event in events]:
        await chain.tell(*batch)

    assert (await chain.payment(sale.payment_id))[0] == "succeeded"
    assert (await chain.payment(twin.payment_id))[0] == "refunded"
    assert await chain.booking(sale.booking_id) == ("confirmed", sale.payment_id)
    assert chain.bookings() == [
        ("booking.confirmed", None, sale.payment_id),
        ("booking.payment_conflict", "already_paid", twin.payment_id),
    ]
    assert await chain.letters() == CONFIRMATIONS


async def test_the_refund_of_the_holder_cancels_although_a_twin_is_paid(chain, sale, twin):
    """The booking was sold for the first payment; the twin's money stays a matter for a person."""
    await chain.tell(sale.succeeded())
    await chain.tell(twin.succeeded())
    await chain.tell(sale.refunded())

    assert await chain.booking(sale.booking_id) == ("cancelled", sale.payment_id)
    assert [name for name, *_ in chain.bookings()] == ["booking.confirmed", "booking.payment_conflict", "booking.cancelled"]


async def test_a_twin_never_takes_over_what_the_older_application_confirmed(chain, sale, twin):
    """It named no payment, but one of its payments is paid: the late twin is a conflict, and its refund cancels nothing."""
    await chain.sql("update bookings set status = 'confirmed'")
    await chain.sql(
        "insert into booking_payments (payment_id, booking_id, version, paid, cancel_due) values ($1, $2, 0, true, false)",
        sale.payment_id,
        sale.booking_id,
    )
    await chain.tell(twin.succeeded())
    await chain.tell(twin.refunded())

    assert await chain.booking(sale.booking_id) == ("confirmed", None)
    assert chain.bookings() == [("booking.payment_conflict", "already_paid", twin.payment_id)]
    assert await chain.letters() == []


@pytest.mark.parametrize("last", ["sale", "twin"])
async def test_a_booking_is_never_left_confirmed_once_all_its_money_went_back(chain, sale, twin, last):
    """The older application confirmed it and named no payment; both were paid, and both are given back, in either order."""
    await chain.sql("update bookings set status = 'confirmed'")
    for one in (sale, twin):
        await chain.sql(
            "insert into booking_payments (payment_id, booking_id, version, paid, cancel_due) values ($1, $2, 0, true, false)",
            one.payment_id,
            sale.booking_id,
        )
    first, second = (twin, sale) if last == "sale" else (sale, twin)
    await chain.tell(first.succeeded())
    await chain.tell(first.refunded())
    assert (await chain.booking(sale.booking_id))[0] == "confirmed"
    await chain.tell(second.succeeded())
    await chain.tell(second.refunded())

    assert (await chain.booking(sale.booking_id))[0] == "cancelled"
    assert chain.bookings() == [("booking.cancelled", "refunded", second.payment_id)]
