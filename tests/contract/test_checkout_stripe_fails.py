"""Stripe is away, fails, or says no in the middle of a checkout: nothing is sold twice, and nothing is blocked."""

import pytest

from shared import metrics
from tests.support.door import ORIGIN, PAYMENTS, URLS, meeting, opened, sandbox

FAULTS = ["error_before", "conflict", "rate_limit", "cut"]


@pytest.mark.parametrize("kind", FAULTS)
async def test_stripe_away_is_502_and_resumed(door, kind):
    """A row whose call to Stripe failed is taken up by the next checkout with the same words: one row, one session."""
    booked = await meeting(door.engine)
    door.arm(kind, times=3)

    status, body = await door.checkout(booked.booking_id, booked.client)
    assert (status, body["code"]) == (502, "stripe_unavailable")
    [row] = await door.sql(PAYMENTS)
    assert row[4:] == (None, True)
    door.stripe.clear()
    # What the person or the price is called now does not matter: the stored words are said again.
    await door.sql("update coach_profiles set first_name = 'Rear Admiral', hourly_rate = 200")

    status, body = await door.checkout(booked.booking_id, booked.client, success_url=f"{ORIGIN}/elsewhere")

    assert (status, body["payment_id"], body["amount"]) == (201, str(row[0]), 75)
    [session] = door.sessions()
    assert session["success_url"] == URLS["success_url"]
    assert len(await door.sql(PAYMENTS)) == 1


async def test_whoever_resumes_a_checkout_under_another_key_finds_its_address_again(door):
    """The row keeps the key of the call that broke off: the next one, repeated, hears where it is paid, as described."""
    booked = await meeting(door.engine)
    door.arm("error_before", times=3)
    assert (await door.checkout(booked.booking_id, booked.client, key="first"))[0] == 502
    door.stripe.clear()

    status, resumed = await door.checkout(booked.booking_id, booked.client, key="second")
    again, refused = await door.checkout(booked.booking_id, booked.client, key="second")
    first = await door.checkout(booked.booking_id, booked.client, key="first")

    assert (status, again, refused["code"], refused["url"]) == (201, 400, "payment_already_exists", resumed["url"])
    assert first == (201, resumed)
    assert len(door.sessions()) == 1


async def test_a_stored_500_never_blocks_a_booking(door):
    """Stripe replays a 5xx for a day under its key: the row is closed, another one pays; the stray was shown to nobody."""
    booked = await meeting(door.engine)
    door.arm("error_after")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert status == 201, body
    rows = await door.sql("select closed_at is null, stripe_session_id from payments order by id")
    assert rows == [(False, None), (True, body["session_id"])]


async def test_a_stripe_that_fails_again_and_again_is_asked_for_no_third_row(door):
    """Each failure is stored under its key, so that a call could go on with row after row: an outage is no time for a storm."""
    booked = await meeting(door.engine)
    door.arm("error_after", times=50)

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (502, "stripe_unavailable")
    assert [row[5] for row in await door.sql(PAYMENTS)] == [False, True]
    door.stripe.clear()
    assert (await door.checkout(booked.booking_id, booked.client))[0] == 201


async def test_a_key_that_was_used_for_something_else_gives_way(door):
    """An idempotency error is final for its row: closed, and another made."""
    booked = await meeting(door.engine)
    door.arm("cut", times=3)
    assert (await door.checkout(booked.booking_id, booked.client))[0] == 502
    door.stripe.clear()
    await door.sql("update payments set checkout_request = jsonb_set(checkout_request, '{item_name}', '\"x\"')")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert status == 201, body
    assert [row[5] for row in await door.sql(PAYMENTS)] == [False, True]


@pytest.mark.parametrize("key", [None, "k-1"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update coach_profiles set hourly_rate = 0.10", "booking_has_no_price"),
        ("update users set email = 'nobody' where role = 'client'", "client_email_refused"),
    ],
)
async def test_what_stripe_refuses_of_a_profile_is_400_until_it_is_corrected(door, change, code, key):
    """Less than Stripe charges, or no e-mail address: no alert fires, and the next call sends the price and address of then."""
    booked = await meeting(door.engine)
    failed = metrics.checkout_requests.labels("stripe_refused")._value
    before = failed.get()
    await door.sql(change)

    for _ in range(2):
        status, body = await door.checkout(booked.booking_id, booked.client, key=key)
        assert (status, body["code"]) == (400, code)
    await door.sql("update coach_profiles set hourly_rate = 75")
    await door.sql("update users set email = 'corrected@example.com' where id = $1", booked.client.id)
    status, body = await door.checkout(booked.booking_id, booked.client, key=key)

    assert (status, body.get("amount")) == (201, 75), body
    [session] = door.sessions()
    assert session["customer_email"] == "corrected@example.com"
    assert [row[4:] for row in await door.sql(PAYMENTS)] == [(None, False), (None, False), (session["id"], True)]
    assert failed.get() == before


async def test_a_price_below_stripes_minimum_says_so(door):
    """The code is that of every price which cannot be charged, and the detail names the reason."""
    booked = await meeting(door.engine, rate="0.10")

    _, body = await door.checkout(booked.booking_id, booked.client)

    assert body["detail"] == "The price of the booking is less than the payment provider charges."


async def test_what_stripe_refuses_for_another_reason_is_502_until_it_is_mended(door):
    """A currency that Stripe does not charge in: an operator has to look; the next call sends what the profile says then."""
    booked = await meeting(door.engine, currency="XXX")

    for _ in range(2):
        status, body = await door.checkout(booked.booking_id, booked.client)
        assert (status, body["code"]) == (502, "stripe_refused")
    await door.sql("update coach_profiles set currency = 'USD'")

    assert (await door.checkout(booked.booking_id, booked.client))[0] == 201


async def test_a_refusal_that_nobody_wrote_down_is_heard_again(door):
    """Killed between Stripe's answer and the row: the next call asks the same, closes the row, and the one after is free."""
    booked = await meeting(door.engine, rate="0.10")
    await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set closed_at = null")
    await door.sql("update coach_profiles set hourly_rate = 75")

    first, second = [await door.checkout(booked.booking_id, booked.client) for _ in range(2)]

    assert [status for status, _ in (first, second)] == [400, 201]
    assert [row[5] for row in await door.sql(PAYMENTS)] == [False, True]


async def test_a_key_that_stripe_does_not_let_in_is_502_and_resumed(database, tmp_path):
    """Nothing was said about the row: once the key is mended the same one goes on with its words."""
    async with sandbox(tmp_path / "stripe") as stripe:
        async with opened(database, stripe=stripe, stripe_secret_key="sk_live_" + "k" * 24) as door:
            booked = await meeting(door.engine)
            status, body = await door.checkout(booked.booking_id, booked.client)
            assert (status, body["code"]) == (502, "stripe_refused")
            [row] = await door.sql(PAYMENTS)
            assert row[4:] == (None, True)
        async with opened(database, stripe=stripe) as door:
            status, body = await door.checkout(booked.booking_id, booked.client)

            assert (status, body["payment_id"]) == (201, str(row[0]))


OVER = "update payments set expires_at = now() - interval '1 minute'"


async def test_stripe_away_when_it_is_asked_for_a_session_that_is_over_is_502_and_resumed(door):
    """Whether it was paid nobody knows: nothing is opened beside it, and the next checkout asks again."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)
    door.expire_at_stripe(first["session_id"])
    await door.sql(OVER)
    door.arm("rate_limit", times=3, route="GET /v1/checkout/sessions/{id}")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (502, "stripe_unavailable")
    assert [row[4:] for row in await door.sql(PAYMENTS)] == [(first["session_id"], True)]
    door.stripe.clear()
    assert (await door.checkout(booked.booking_id, booked.client))[0] == 201


async def test_a_key_that_stripe_no_longer_lets_in_opens_nothing_beside_a_session_that_is_over(database, tmp_path):
    """Nothing was said about the session, which may be paid: its row goes on blocking until the key is mended."""
    async with sandbox(tmp_path / "stripe") as stripe:
        async with opened(database, stripe=stripe) as door:
            booked = await meeting(door.engine)
            _, first = await door.checkout(booked.booking_id, booked.client)
            await door.sql(OVER)
        async with opened(database, stripe=stripe, stripe_secret_key="sk_live_" + "k" * 24) as door:
            status, body = await door.checkout(booked.booking_id, booked.client)

            assert (status, body["code"]) == (502, "stripe_refused")
            assert [row[4:] for row in await door.sql(PAYMENTS)] == [(first["session_id"], True)]
