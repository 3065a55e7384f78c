"""What stands in the way of a checkout, of the booking or of its earlier payments, and what gives way."""

import uuid

import pytest

from tests.support.door import PAYMENTS, meeting


@pytest.mark.parametrize("status", ["confirmed", "completed", "cancelled"])
async def test_only_a_pending_booking_is_paid(door, status):
    """400 for a booking that waits for no payment."""
    booked = await meeting(door.engine, status=status)

    answered, body = await door.checkout(booked.booking_id, booked.client)

    assert (answered, body["code"]) == (400, "booking_not_pending")
    assert await door.sql(PAYMENTS) == []


async def test_a_session_of_the_past_is_never_sold(door):
    """400 booking_past."""
    booked = await meeting(door.engine, in_days=-1)

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (400, "booking_past")


@pytest.mark.parametrize(
    ("moment", "answer"), [("infinity", 201), ("10000-01-01", 201), ("0044-03-15 BC", 400), ("-infinity", 400)]
)
async def test_a_session_outside_the_time_that_python_knows_is_one_of_the_future_or_of_the_past(door, moment, answer):
    """Somebody mistyped a year: that is no fault of ours, for which a person would be called."""
    booked = await meeting(door.engine)
    await door.sql(f"update bookings set session_datetime = '{moment}'")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body.get("code")) == (answer, "booking_past" if answer == 400 else None)


@pytest.mark.parametrize(
    "change",
    [
        "update coach_profiles set hourly_rate = null",
        "update coach_profiles set hourly_rate = 0",
        "update coach_profiles set hourly_rate = 'NaN'",
        "update coach_profiles set hourly_rate = 99999999, currency = 'EUR'",
        "delete from coach_profiles",
        "update coach_profiles set currency = ''",
    ],
)
async def test_what_has_no_price_is_not_sold(door, change):
    """400 booking_has_no_price, and no row is left behind."""
    booked = await meeting(door.engine, minutes=120)
    await door.sql(change)

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (400, "booking_has_no_price")
    assert await door.sql(PAYMENTS) == []


async def test_a_paid_booking_is_not_paid_again(door):
    """Money that came before the booking heard of it: 400, whose address to pay at is null, as its words say."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set status = 'succeeded', paid = true")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (400, "payment_already_exists")
    assert (body["payment_id"], body["url"]) == (first["payment_id"], None)
    assert "where that is null" in body["detail"]


async def test_a_paid_booking_stands_in_no_other_ones_way(door):
    """Who has paid for one session may book the next."""
    booked, other = await meeting(door.engine), await meeting(door.engine)
    await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set status = 'succeeded', paid = true")

    status, _ = await door.checkout(other.booking_id, other.client)

    assert status == 201


async def test_a_closed_and_paid_one_still_counts(door):
    """A payment of the booking that succeeded forbids another one even when it no longer blocks."""
    booked = await meeting(door.engine)
    await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set status = 'succeeded', paid = true, closed_at = now()")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (400, "payment_already_exists")


async def test_a_declined_card_leaves_its_session_open(door):
    """FAILED does not close: the customer is sent back to the same page."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set status = 'failed', failed = true, failure_reason = 'generic_decline'")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"], body["url"]) == (400, "payment_already_exists", first["url"])


PAST = "update payments set expires_at = now() - interval '1 minute'"


@pytest.mark.parametrize("key", [None, "k-1"])
async def test_an_expired_session_gives_way(door, key):
    """Past its end, and expired at Stripe: the row is closed and another opened, with the price of today."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client, key=key)
    door.expire_at_stripe(first["session_id"])
    await door.sql(PAST)
    await door.sql("update coach_profiles set hourly_rate = 90")

    status, second = await door.checkout(booked.booking_id, booked.client, key=key)

    assert status == 201
    assert second["session_id"] != first["session_id"]
    assert second["amount"] == 90
    assert sorted(row[5] for row in await door.sql(PAYMENTS)) == [False, True]
    assert await door.sql("select closed_reason from payments where closed_at is not null") == [(None,)]


async def test_a_session_that_stripe_still_holds_open_blocks(door):
    """Our clock says over, Stripe says open: its URL is shown, nothing new is made."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)
    await door.sql(PAST)

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"], body["url"]) == (400, "payment_already_exists", first["url"])


async def test_a_session_that_stripe_does_not_know_gives_way(door):
    """None is as good as expired."""
    booked = await meeting(door.engine)
    await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set expires_at = null, stripe_session_id = 'cs_test_unknown'")

    status, _ = await door.checkout(booked.booking_id, booked.client)

    assert status == 201


async def test_a_row_of_the_older_application_gives_way_or_blocks(door):
    """Without an expiry Stripe is asked; without a session nobody can pay it."""
    booked = await meeting(door.engine)
    await door.sql("insert into payments (id, booking_id, amount) values ($1, $2, 75)", uuid.uuid4(), booked.booking_id)

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert status == 201, body
    assert len(await door.sql(PAYMENTS)) == 2


@pytest.mark.parametrize(
    "change", ["created_at = created_at - interval '24 hours'", "expires_at = now() + interval '30 minutes'"]
)
async def test_a_row_too_old_for_its_key_gives_way(door, change):
    """Without a session, older than Stripe keeps keys or too near its end: closed, and another made."""
    booked = await meeting(door.engine)
    door.arm("error_before", times=3)
    assert (await door.checkout(booked.booking_id, booked.client))[0] == 502
    await door.sql(f"update payments set {change}")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert status == 201, body
    rows = await door.sql("select closed_at is null, stripe_session_id from payments order by id")
    assert rows == [(False, None), (True, body["session_id"])]
