"""The hosted page over real sockets: each card through the form, and what a customer is told."""

import asyncio
import hashlib
import hmac
import json
import re

import pytest
import stripe

from tests.support.sandboxes import SECRET, opened, order

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]


async def test_a_good_card_pays_and_every_webhook_is_signed(world):
    """Four events and a late fifth; each body passes the official check and an independent one."""
    session = await world.paid(payment_intent_data={"metadata": {"payment_id": "p-1"}})
    await world.told("charge.updated")

    assert (session.status, session.payment_status) == ("complete", "paid")
    assert world.webhook.types[:4] == PAID
    for body, headers in zip(world.webhook.bodies, world.webhook.headers, strict=True):
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert event.api_version == "2026-10-28.endive"
        at, v1 = re.match(r"t=(\d+),v1=([0-9a-f]{64})", headers["Stripe-Signature"]).groups()
        assert v1 == hmac.digest(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hex()
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert body == json.dumps(json.loads(body), indent=2, ensure_ascii=False).encode()
    intent = await world.client.v1.payment_intents.retrieve_async(session.payment_intent)
    charge = await world.client.v1.charges.retrieve_async(intent.latest_charge)
    assert (intent.metadata.payment_id, charge.balance_transaction[:5]) == ("p-1", "txn_3")


async def test_a_form_that_arrives_slowly_does_not_pay_what_another_tab_has_paid(world):
    """Whether the session is open is asked when the whole form is there, so that nobody is charged twice."""
    session = await world.session()
    begun, paid = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield b"email=ada%40example.org&number=4242424242424242&"
        begun.set()
        await paid.wait()
        yield b"expiry=12%2F34&cvc=123"

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    slow = asyncio.create_task(world.http.post(session.url, data=slowly(), headers=kind, allow_redirects=False))
    await begun.wait()
    assert (await world.pay(session))[0] == 303
    paid.set()
    async with await slow as answer:
        assert answer.status == 409

    assert len((await world.client.v1.charges.list_async()).data) == 1


async def test_the_customer_is_sent_back_with_the_session_id(world):
    """The placeholder of success_url is filled in."""
    session = await world.session()
    status, location, _ = await world.pay(session)

    assert (status, location) == (303, f"http://127.0.0.1:9/thanks?session={session.id}")


async def test_the_customer_waits_until_the_webhook_has_answered(world):
    """The shop knows first; an answer of any kind lets the customer go."""
    session = await world.session()
    world.webhook.open.clear()
    paying = asyncio.create_task(world.pay(session))
    await world.told("checkout.session.completed")
    assert not paying.done()
    world.webhook.open.set()

    async with asyncio.timeout(5):  # half of what the customer of a silent shop waits
        assert (await paying)[0] == 303


async def test_the_customer_does_not_wait_for_ever(tmp_path, webhook):
    """A shop that does not answer keeps nobody longer than Stripe would (10 s; here half a second)."""
    async with opened(tmp_path, webhook, redirect_wait_seconds_max=0.5) as world:
        world.webhook.open.clear()

        assert (await world.pay(await world.session()))[0] == 303


async def test_a_declined_card_may_be_followed_by_a_good_one(world):
    """402 with the reason beside the field, the session stays open, the same intent succeeds."""
    session = await world.session()
    status, _, page = await world.pay(session, "4000000000000002")
    assert status == 402
    assert 'id="number-error" role="alert">Your card was declined.' in page
    open_still = await world.client.v1.checkout.sessions.retrieve_async(session.id)

    assert (await world.pay(session))[0] == 303
    [failed] = await world.told("payment_intent.payment_failed")
    [succeeded] = await world.told("payment_intent.succeeded")
    assert open_still.status == "open"
    assert failed["data"]["object"]["id"] == succeeded["data"]["object"]["id"] == open_still.payment_intent
    assert len(world.webhook.events("payment_intent.created")) == 1


@pytest.mark.parametrize(
    ("answer", "kind"), [("complete", "checkout.session.completed"), ("fail", "payment_intent.payment_failed")]
)
async def test_three_d_secure_asks_at_the_bank(world, answer, kind):
    """Complete pays; Fail leads back to the form, which says why."""
    session = await world.session()
    status, bank, _ = await world.pay(session, "4000002500003155")
    assert (status, bank.startswith("/3ds/pi_3")) == (303, True)
    async with world.http.post(world.url + bank, data={"answer": answer}, allow_redirects=False) as answered:
        back = answered.headers["Location"]

    await world.told(kind)
    if answer == "fail":
        async with world.http.get(world.url + back) as page:
            assert "We are unable to authenticate your payment method." in await page.text()
    else:
        assert session.id in back


@pytest.mark.parametrize("typed", [{"number": "4242424242424241"}, {"expiry": "01/20"}, {"cvc": "1"}, {"email": "nobody"}])
async def test_a_typing_error_is_told_and_makes_no_intent(world, typed):
    """422, an error tied to its field, nothing attempted."""
    session = await world.session()
    status, _, page = await world.pay(session, **typed)
    [name] = typed
    again = await world.client.v1.checkout.sessions.retrieve_async(session.id)

    assert status == 422
    assert f'aria-invalid="true" aria-describedby="{name}-error"' in page
    assert again.payment_intent is None


async def test_a_number_that_may_be_real_is_never_shown_again(world):
    """Only test cards are echoed."""
    _, _, page = await world.pay(await world.session(), "4111111111111111")

    assert "please use one of the test cards" in page
    assert "4111" not in page


async def test_what_the_shop_wrote_is_shown_as_text(world):
    """A product's name is no markup."""
    wish = order(currency="jpy")
    wish["line_items"][0]["price_data"]["product_data"]["name"] = "<script>alert(1)</script>"
    session = await world.client.v1.checkout.sessions.create_async(wish)
    async with world.http.get(session.url) as answer:
        page = await answer.text()

    assert "&lt;script&gt;" in page
    assert "¥7,500" in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_session_is_paid_once(world):
    """A second tab is told so, and nothing is charged."""
    session = await world.session()
    await world.pay(session)
    status, _, page = await world.pay(session)

    assert status == 409
    assert "already paid" in page
    assert len(world.webhook.events("charge.succeeded")) == 1


async def test_an_expired_session_takes_no_money(world):
    """The page says so and leads back."""
    session = await world.session()
    await world.client.v1.checkout.sessions.expire_async(session.id)
    status, _, page = await world.pay(session)

    assert status == 409
    assert "expired" in page
    assert 'href="http://127.0.0.1:9/back"' in page


async def test_a_test_card_is_filled_in_without_a_script(world):
    """The buttons at the side work as plain form buttons and keep the typed mail address."""
    status, _, page = await world.pay(await world.session(), fill="4000000000000002")

    assert status == 200
    assert 'value="4000 0000 0000 0002"' in page
    assert 'value="ada@example.org"' in page


@pytest.mark.parametrize("where", ["/c/pay/{}", "/switches"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b"garbage"),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Transfer-Encoding: odd\r\n\r\nabc\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded; charset=odd", b"email=a"),
        ("application/x-www-form-urlencoded", b"email=\xff"),
    ],
)
async def test_what_is_no_form_is_refused(world, where, kind, body):
    """It is the sender's mistake, and no trouble of the sandbox."""
    url = world.url + where.format((await world.session()).id)
    async with world.http.post(url, data=body, headers={"Content-Type": kind}) as answer:
        assert answer.status == 400
        assert (await answer.text()).startswith("This is no form: ")
