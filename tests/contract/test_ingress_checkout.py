"""POST /payment/checkout over real sockets, on real PostgreSQL, against the Stripe sandbox: what is asked and answered."""

import json
import uuid

import pytest

from shared import metrics, settings
from shared.domain import money
from tests.support.door import ORIGIN, PAYMENTS, URLS, Person, bearer, meeting, opened


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


@pytest.mark.parametrize(("said", "charged"), [(None, "usd"), ("eur", "eur")])
async def test_a_coach_who_says_no_currency_asks_for_dollars(door, said, charged):
    """As CultureBridge's own default; and whoever writes it small means the same."""
    booked = await meeting(door.engine, currency=said)

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["currency"]) == (201, charged.upper())
    assert [session["currency"] for session in door.sessions()] == [charged]


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


@pytest.mark.parametrize("path", ["a" * 2048, "?name=José", "?sort=price|date"])
async def test_a_url_that_is_none_is_not_told_as_a_foreign_origin_alone(door, path):
    """Its origin is allowed: whoever reads the refusal looks at its length and its letters, too."""
    booked = await meeting(door.engine)

    status, body = await door.checkout(booked.booking_id, booked.client, success_url=f"{ORIGIN}/{path}")

    assert (status, body["code"]) == (422, "url_refused")
    assert "2048" in body["detail"]
    assert "escaped" in body["detail"]


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

    status, body = await door.checkout(booked.booking_id, booked.client, headers={"Idempotency-Key": key})

    assert status == 422
    assert "1 to 255 printable ASCII characters without spaces" in body["detail"]


async def test_the_eleventh_checkout_of_a_minute_has_to_wait(door):
    """The eleventh checkout of a minute is 429 with the seconds to wait; other people are not touched."""
    booked, other = await meeting(door.engine), await meeting(door.engine)
    for _ in range(10):
        await door.checkout(uuid.uuid4(), booked.client)

    async with door.http.post("/payment/checkout", json={}, headers=bearer(booked.client)) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await door.checkout(other.booking_id, other.client))[0] == 201


async def test_a_checkout_without_a_database_is_counted_too():
    """503, and the dashboard's sum by outcome holds it: an outage of the database is no silence."""
    counted = metrics.checkout_requests.labels(outcome="database_unavailable")._value
    before = counted.get()
    async with opened(settings.Database(database_url="postgresql://nobody@127.0.0.1:9/none")) as door:
        status, body = await door.checkout(uuid.uuid4(), Person("client"))

    assert (status, body["code"]) == (503, "database_unavailable")
    assert counted.get() == before + 1
