"""POST /payment/checkout over real sockets, on real PostgreSQL, against the Stripe sandbox."""

import json
import uuid

import pytest

from shared import settings
from shared.domain import money
from tests.door import ORIGIN, URLS, bearer, gathered, meeting, opened, person, sandbox


@pytest.fixture
async def door(database, tmp_path):
    async with sandbox(tmp_path / "stripe") as stripe, opened(database, stripe=stripe) as made:
        yield made


PAYMENTS = "select id, amount_minor, currency, status::text, stripe_session_id, closed_at is null from payments order by id"


async def test_a_checkout_answers_the_address_of_the_hosted_page(door):
    """201 with session, URL, payment, the exact amount and its currency; one PENDING row, named in all that Stripe keeps."""
    booked = await meeting(door.engine, rate="75.00", minutes=60)

    status, body = await door.checkout(booked.booking_id, booked.client)

    [session] = door.sessions()
    assert status == 201
    assert body == {
        "session_id": session["id"],
        "url": session["url"],
        "payment_id": session["client_reference_id"],
        "amount": 75.00,
        "currency": "USD",
    }
    names = {"payment_id": body["payment_id"], "booking_id": str(booked.booking_id)}
    assert session["metadata"] == names
    assert session["amount_total"] == 7500
    assert await door.sql(PAYMENTS) == [(uuid.UUID(body["payment_id"]), 7500, "USD", "pending", session["id"], True)]
    assert uuid.UUID(body["payment_id"]).version == 7


@pytest.mark.parametrize(
    ("rate", "minutes", "currency", "shown", "minor"),
    [
        ("75.00", 60, "USD", "75.00", 7500),
        ("80.00", 90, "EUR", "120.00", 12000),
        ("50.00", 50, "USD", "41.67", 4167),
        ("83.32", 30, "USD", "41.66", 4166),
        ("83.31", 30, "USD", "41.66", 4166),
        ("8000", 60, "JPY", "8000", 8000),
        ("5.12", 60, "KWD", "5.120", 5120),
        ("1234.00", 60, "ISK", "1234.00", 123400),
    ],
)
async def test_no_amount_is_shown_stored_or_charged_another_than_the_price(door, rate, minutes, currency, shown, minor):
    """The hourly rate by the minute, in the currency's own decimals: on the wire digit by digit, in the row, and at Stripe."""
    booked = await meeting(door.engine, rate=rate, minutes=minutes, currency=currency)

    async with door.http.post(
        "/payment/checkout", json={"booking_id": str(booked.booking_id), **URLS}, headers=bearer(booked.client)
    ) as answer:
        text = await answer.text()

    assert answer.status == 201, text
    assert f'"amount":{shown},' in text
    assert [row[1] for row in await door.sql(PAYMENTS)] == [minor]
    assert [session["amount_total"] for session in door.sessions()] == [minor]
    async with door.http.get(f"/payment/{json.loads(text)['payment_id']}", headers=bearer(booked.client)) as again:
        text = await again.text()
        nothing = money.to_decimal(0, currency)
        assert f'"amount":{shown},' in text
        assert f'"amount_refunded":{nothing},' in text


async def test_yen_are_never_charged_a_hundredfold(door):
    """8000 yen are 8000 of what Stripe counts, and no decimals for the customer."""
    booked = await meeting(door.engine, rate="8000.00", currency="JPY")

    _, body = await door.checkout(booked.booking_id, booked.client)

    assert [(s["amount_total"], s["currency"]) for s in door.sessions()] == [(8000, "jpy")]
    assert isinstance(body["amount"], int)


async def test_nothing_is_ever_sold_whose_events_could_not_be_matched(door):
    """Session and intent carry our ids, and the session refers to the payment: a decline alone finds its row."""
    booked = await meeting(door.engine)
    _, body = await door.checkout(booked.booking_id, booked.client)

    [session] = door.sessions()
    ours = {"payment_id": body["payment_id"], "booking_id": str(booked.booking_id)}
    assert session["metadata"] == ours
    assert session["client_reference_id"] == body["payment_id"]
    assert door.stripe.world.get("cart", session["id"])["payment_intent_data"]["metadata"] == ours


async def test_a_session_is_never_without_an_end_nor_for_cards_alone(door):
    """It ends after an hour, as the row says; which methods are offered is the Stripe account's to say, not ours."""
    booked = await meeting(door.engine)
    await door.checkout(booked.booking_id, booked.client)

    [session] = door.sessions()
    [[expires_at]] = await door.sql("select expires_at from payments")
    assert session["expires_at"] == int(expires_at.timestamp())
    assert 3590 <= session["expires_at"] - session["created"] <= 3600
    assert door.stripe.world.get("cart", session["id"]).get("payment_method_types") is None


async def test_the_customer_reads_what_they_pay_for(door):
    """Stripe's page names coach and minutes, and knows the client's address; our row forgets both once it is answered."""
    booked = await meeting(door.engine, minutes=45)
    await door.checkout(booked.booking_id, booked.client)

    [session] = door.sessions()
    [item] = door.stripe.world.get("cart", session["id"])["line_items"]
    [[request]] = await door.sql("select checkout_request::text from payments")

    assert item["name"] == "Coaching session with Grace Hopper, 45 min"
    assert session["customer_email"].startswith("client-")
    assert "Hopper" not in request
    assert "@" not in request
    assert json.loads(request)["amount_minor"] == 5625


async def test_a_second_checkout_is_shown_the_open_one(door):
    """One payment blocks its booking: 400 with session, URL and payment of the open one."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)

    status, body = await door.checkout(booked.booking_id, booked.client, key="another")

    assert (status, body["code"]) == (400, "payment_already_exists")
    assert {name: body[name] for name in ("session_id", "url", "payment_id")} == {
        name: first[name] for name in ("session_id", "url", "payment_id")
    }
    assert len(door.sessions()) == 1


async def test_the_same_key_and_body_give_the_same_session(door):
    """A lost answer is asked for again: 201 with the same open session, and nothing new."""
    booked = await meeting(door.engine)

    first = await door.checkout(booked.booking_id, booked.client, key="k-1")
    second = await door.checkout(booked.booking_id, booked.client, key="k-1")

    assert first == second
    assert first[0] == 201
    assert len(door.sessions()) == 1


async def test_the_same_key_with_another_body_is_refused(door):
    """A key means one wish: another URL or another booking under it is 422, while its payment is open."""
    booked, other = await meeting(door.engine), await meeting(door.engine)
    await door.sql("update bookings set client_id = $1", booked.client.id)
    await door.checkout(booked.booking_id, booked.client, key="k-1")

    elsewhere = await door.checkout(booked.booking_id, booked.client, key="k-1", success_url=f"{ORIGIN}/other")
    another = await door.checkout(other.booking_id, booked.client, key="k-1")

    assert [(s, b["code"]) for s, b in (elsewhere, another)] == [(422, "idempotency_key_reused")] * 2
    assert len(door.sessions()) == 1


async def test_a_key_belongs_to_its_caller(door):
    """Two people may use the same word; only its hash is stored."""
    one, two = await meeting(door.engine), await meeting(door.engine)

    first = await door.checkout(one.booking_id, one.client, key="same")
    second = await door.checkout(two.booking_id, two.client, key="same")

    assert (first[0], second[0]) == (201, 201)
    stored = {row[0] for row in await door.sql("select idempotency_key from payments")}
    assert len(stored) == 2
    assert all(len(key) == 64 for key in stored)


async def test_fifty_at_once_open_one_session(door):
    """However many knock at the same moment, Stripe makes one session and everybody is told that one."""
    booked = await meeting(door.engine)
    admins = [await person(door.engine, "admin") for _ in range(6)]
    callers = [booked.client] * 9 + [admin for admin in admins for _ in range(9)]

    answers = await gathered(*(door.checkout(booked.booking_id, caller) for caller in callers))

    [session] = door.sessions()
    assert {status for status, _ in answers} <= {201, 400}
    assert {body["session_id"] for _, body in answers} == {session["id"]}
    assert len([status for status, _ in answers if status == 201]) >= 1
    assert len(await door.sql(PAYMENTS)) == 1


@pytest.mark.parametrize("minutes", [settings.CHECKOUT_SESSION_MINUTES_MIN, settings.CHECKOUT_SESSION_MINUTES_MAX])
async def test_the_shortest_and_the_longest_session_are_opened_at_once(database, tmp_path, minutes):
    """One row, one session for all who ask: a row that was just made is nobody's to give up."""
    async with (
        sandbox(tmp_path / "stripe") as stripe,
        opened(database, stripe=stripe, checkout_session_minutes=minutes) as door,
    ):
        booked = await meeting(door.engine)

        answers = await gathered(*(door.checkout(booked.booking_id, booked.client) for _ in range(9)))

        assert 201 in {status for status, _ in answers}
        [session] = door.sessions()
        assert {body["session_id"] for _, body in answers} == {session["id"]}
        assert len(await door.sql(PAYMENTS)) == 1


async def test_two_processes_at_once_open_one_session(database, tmp_path):
    """The rule is held by the database and by Stripe's key, not by the memory of one process."""
    async with (
        sandbox(tmp_path / "stripe") as stripe,
        opened(database, stripe=stripe) as left,
        opened(database, stripe=stripe) as right,
    ):
        for _ in range(5):
            booked = await meeting(left.engine)
            calls = [door.checkout(booked.booking_id, booked.client) for door in (left, right) * 4]
            answers = await gathered(*calls)

            [payment] = await left.sql("select stripe_session_id from payments where booking_id = $1", booked.booking_id)
            assert {body["session_id"] for _, body in answers} == {payment[0]}
        assert len(left.sessions()) == 5


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
    """Money that came before the booking heard of it: 400, without an address to pay at."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set status = 'succeeded', paid = true")

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (400, "payment_already_exists")
    assert (body["payment_id"], body["url"]) == (first["payment_id"], None)


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
async def test_what_stripe_refuses_is_502_until_it_is_mended(door, key):
    """Less than Stripe charges, told with its own code; the next call says what price and address are by then."""
    booked = await meeting(door.engine, rate="0.10")

    for _ in range(2):
        status, body = await door.checkout(booked.booking_id, booked.client, key=key)
        assert (status, body["code"]) == (502, "stripe_refused")
    await door.sql("update coach_profiles set hourly_rate = 75")
    await door.sql("update users set email = 'mended@example.com' where id = $1", booked.client.id)
    status, body = await door.checkout(booked.booking_id, booked.client, key=key)

    assert (status, body.get("amount")) == (201, 75), body
    [session] = door.sessions()
    assert session["customer_email"] == "mended@example.com"
    assert [row[4:] for row in await door.sql(PAYMENTS)] == [(None, False), (None, False), (session["id"], True)]


async def test_a_refusal_that_nobody_wrote_down_is_heard_again(door):
    """Killed between Stripe's answer and the row: the next call asks the same, closes the row, and the one after is free."""
    booked = await meeting(door.engine, rate="0.10")
    await door.checkout(booked.booking_id, booked.client)
    await door.sql("update payments set closed_at = null")
    await door.sql("update coach_profiles set hourly_rate = 75")

    first, second = [await door.checkout(booked.booking_id, booked.client) for _ in range(2)]

    assert [status for status, _ in (first, second)] == [502, 201]
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


BAD_BODIES = {
    "unknown field": {"amount": 1},
    "status": {"status": "succeeded"},
    "role": {"role": "admin"},
    "foreign origin": {"success_url": "https://evil.example/"},
    "foreign cancel": {"cancel_url": "https://app.culturebridge.com@evil.example/"},
    "no UUID": {"booking_id": "1"},
    "a number": {"success_url": 1},
    "null": {"cancel_url": None},
}


@pytest.mark.parametrize("bad", BAD_BODIES)
async def test_what_is_not_documented_is_refused(door, bad):
    """422, and nothing is written."""
    changes = dict(BAD_BODIES[bad])
    booked = await meeting(door.engine)

    status, body = await door.checkout(changes.pop("booking_id", booked.booking_id), booked.client, **changes)

    assert status == 422, body
    assert await door.sql(PAYMENTS) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b'{"a":' * 2000, b"booking_id=1"])
async def test_a_body_that_is_no_object_is_refused(door, body):
    """422, whatever the bytes are."""
    booked = await meeting(door.engine)

    async with door.http.post("/payment/checkout", data=body, headers=bearer(booked.client)) as answer:
        assert (answer.status, answer.content_type) == (422, "application/problem+json")


async def test_a_large_body_is_not_read(door):
    """413 above 16 KiB."""
    booked = await meeting(door.engine)

    async with door.http.post("/payment/checkout", data=b" " * 20_000, headers=bearer(booked.client)) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("key", ["a" * 256, "sp ace", "é"])
async def test_a_crooked_key_is_refused(door, key):
    """1 to 255 printable ASCII characters."""
    booked = await meeting(door.engine)

    assert (await door.checkout(booked.booking_id, booked.client, headers={"Idempotency-Key": key}))[0] == 422


async def test_ten_a_minute(door):
    """The eleventh checkout of a minute is 429 with the seconds to wait; other people are not touched."""
    booked, other = await meeting(door.engine), await meeting(door.engine)
    for _ in range(10):
        await door.checkout(uuid.uuid4(), booked.client)

    async with door.http.post("/payment/checkout", json={}, headers=bearer(booked.client)) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await door.checkout(other.booking_id, other.client))[0] == 201
