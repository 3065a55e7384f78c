"""The official stripe library, unchanged, over everything that the sandbox serves."""

import asyncio
import json
from pathlib import Path

import pytest
import stripe

from tests.support.sandboxes import listening, opened, order, until_all_delivered
from tests.support.waiting import until

EXAMPLES = Path(__file__).parent.parent / "examples" / "stripe"
PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]


@pytest.fixture
def v1(world):
    return world.client.v1


async def bought(v1, card="pm_card_visa", **wish):
    """An intent that was confirmed with this card."""
    return await v1.payment_intents.create_async(
        {"amount": 5000, "currency": "usd", "payment_method": card, "confirm": True} | wish
    )


# Intents and methods


async def test_an_intent_is_paid_without_a_page(v1, world):
    """Made, confirmed, paid; its events name the call."""
    intent = await bought(v1, metadata={"a": "1"})

    assert (intent.status, intent.amount_received) == ("succeeded", 5000)
    await world.told("payment_intent.succeeded")
    assert world.webhook.types[:3] == PAID[:3]
    events = await v1.events.list_async({"type": "charge.succeeded"})
    assert events.data[0].request.id == intent.last_response.request_id
    assert (await v1.charges.retrieve_async(intent.latest_charge)).metadata.a == "1"


async def test_an_intent_is_confirmed_later_and_with_another_card(v1):
    """requires_payment_method, requires_confirmation, a decline, then success."""
    intent = await v1.payment_intents.create_async({"amount": 5000, "currency": "usd"})
    assert intent.status == "requires_payment_method"
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        await v1.payment_intents.confirm_async(intent.id)
    with pytest.raises(stripe.CardError):
        await v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_chargeDeclined"})
    paid = await v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})

    assert (paid.id, paid.status, paid.last_payment_error) == (intent.id, "succeeded", None)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await v1.payment_intents.confirm_async(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"


async def test_a_declined_card_is_a_402_as_real_ones_are(v1):
    """Every key of a recorded body, and the same answer under the same key."""
    wish = {"amount": 5000, "currency": "usd", "payment_method": "pm_card_chargeDeclined", "confirm": True}
    replayed = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as refused:
            await v1.payment_intents.create_async(wish, {"idempotency_key": "k"})
        replayed.append(refused.value.headers.get("Idempotent-Replayed"))
    recorded = json.loads((EXAMPLES / "api-error.402.card_declined.json").read_text())["error"]
    error = refused.value.json_body["error"]

    assert replayed == [None, "true"]
    assert (refused.value.http_status, refused.value.code, error["decline_code"]) == (402, "card_declined", "generic_decline")
    assert set(error) == set(recorded)
    assert set(error["payment_intent"]["last_payment_error"]) == set(recorded["payment_intent"]["last_payment_error"])


async def test_a_bank_may_want_to_see_the_customer_of_an_intent(v1, world):
    """next_action leads to the bank's page, and from there to return_url."""
    intent = await bought(v1, "pm_card_authenticationRequired", return_url="http://127.0.0.1:9/back")
    assert intent.status == "requires_action"
    async with world.http.post(
        intent.next_action.redirect_to_url.url, data={"answer": "complete"}, allow_redirects=False
    ) as answer:
        assert answer.headers["Location"] == "http://127.0.0.1:9/back"

    assert (await v1.payment_intents.retrieve_async(intent.id)).status == "succeeded"


async def test_an_intent_may_be_canceled_unless_it_is_paid_or_a_sessions(v1, world):
    """A paid one says why not; a session's belongs to its page."""
    waiting = await v1.payment_intents.create_async({"amount": 5000, "currency": "usd"})
    canceled = await v1.payment_intents.cancel_async(waiting.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    with pytest.raises(stripe.InvalidRequestError, match="status of succeeded"):
        await v1.payment_intents.cancel_async((await bought(v1)).id)
    session = await world.session()
    await world.pay(session, "4000000000000002")
    tried = await v1.checkout.sessions.retrieve_async(session.id)
    with pytest.raises(stripe.InvalidRequestError, match="created by Checkout"):
        await v1.payment_intents.cancel_async(tried.payment_intent)


@pytest.mark.parametrize(
    "wish",
    [
        {"type": "card", "card": {"token": "tok_visa"}, "billing_details": {"email": "ada@example.org"}},
        {"type": "card", "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034, "cvc": "123"}},
        {"type": "sepa_debit", "sepa_debit": {"iban": "AT611904300234573201"}},
    ],
)
async def test_a_payment_method_is_made_of_a_test_number_or_token(v1, wish):
    """And shown as it was made."""
    made = await v1.payment_methods.create_async(wish)

    assert made.type == wish["type"]
    assert (await v1.payment_methods.retrieve_async(made.id)).to_dict() == made.to_dict()


@pytest.mark.parametrize(
    "wish",
    [
        {"type": "card"},
        {"type": "card", "card": {"token": "tok_whim"}},
        {"type": "card", "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2034}},
        {"type": "card", "card": {"number": "4242424242424241", "exp_month": 12, "exp_year": 2034}},
        {"type": "sepa_debit", "sepa_debit": {"iban": "DE00"}},
    ],
)
async def test_what_may_be_a_real_card_is_no_payment_method(v1, wish):
    """A sandbox takes test numbers only."""
    with pytest.raises((stripe.InvalidRequestError, stripe.CardError)):
        await v1.payment_methods.create_async(wish)


# Products, prices, sessions


async def test_a_session_sells_what_was_priced_before(v1, world):
    """Product, price, session, line items: each names the other."""
    product = await v1.products.create_async({"name": "Coaching", "description": "60 minutes"})
    price = await v1.prices.create_async({"product": product.id, "unit_amount": 1500, "currency": "usd"})
    session = await world.session(line_items=[{"price": price.id, "quantity": 2}])
    items = await v1.checkout.sessions.line_items.list_async(session.id)

    assert session.amount_total == 3000
    assert [(item.price.id, item.price.product, item.quantity, item.amount_total) for item in items.data] == [
        (price.id, product.id, 2, 3000)
    ]
    assert (await v1.products.update_async(product.id, {"name": "Talk"})).name == "Talk"
    assert [found.id for found in (await v1.prices.list_async({"product": product.id})).data] == [price.id]
    assert [found.id for found in (await v1.prices.list_async({"product": "prod_x"})).data] == []


async def test_a_session_sells_a_price_or_what_costs_so_much_not_both(v1, world):
    """And no price that does not exist."""
    for items, words in (
        ([{"price": "price_x", "quantity": 1}], "No such price"),
        ([{"quantity": 1}], "either `price` or `price_data`"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=words):
            await world.session(line_items=items)


async def test_a_session_is_paid_by_script_as_on_the_page(v1, world):
    """Another amount than expected is refused; a decline is a 402; then it pays."""
    session = await world.session()
    page, confirm = f"/v1/payment_pages/{session.id}", f"/v1/payment_pages/{session.id}/confirm"
    with pytest.raises(stripe.InvalidRequestError, match="expected amount"):
        await world.client.raw_request_async("post", confirm, payment_method="pm_card_visa", expected_amount=1)
    with pytest.raises(stripe.CardError):
        await world.client.raw_request_async("post", confirm, payment_method="pm_card_chargeDeclined")
    shown = await world.client.raw_request_async("get", page)
    await world.client.raw_request_async("post", confirm, payment_method="pm_card_visa", expected_amount=7500)

    assert json.loads(shown.body)["status"] == "open"
    await world.told("checkout.session.completed")
    assert (await v1.checkout.sessions.retrieve_async(session.id)).payment_status == "paid"


async def test_a_bank_account_pays_on_the_page_and_the_money_comes_later(v1, world):
    """An order in euros offers SEPA; the session completes unpaid, and is paid when the debit arrives."""
    session = await world.session(**order(currency="eur"))
    assert session.payment_method_types == ["card", "sepa_debit"]
    status, _, _ = await world.pay(session, number="", iban="AT61 1904 3002 3457 3201")
    [completed] = await world.told("checkout.session.completed")
    [arrived] = await world.told("checkout.session.async_payment_succeeded")

    assert status == 303
    assert (completed["data"]["object"]["payment_status"], arrived["data"]["object"]["payment_status"]) == ("unpaid", "paid")


async def test_a_wrong_account_is_told_beside_its_field(world):
    """The card's fields are left alone."""
    status, _, page = await world.pay(await world.session(**order(currency="eur")), number="", iban="AT00")

    assert status == 422
    assert 'id="iban-error" role="alert">Your IBAN is invalid.' in page


# Refunds and disputes


async def test_refunds_are_listed_changed_and_canceled(v1):
    """By charge and by intent; metadata merges, an empty value removes its key."""
    intent = await bought(v1, "pm_card_pendingRefund")
    refund = await v1.refunds.create_async({"payment_intent": intent.id, "amount": 100, "metadata": {"a": "1", "b": "2"}})
    changed = await v1.refunds.update_async(refund.id, {"metadata": {"a": "", "c": "3"}})

    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    for by in ({"charge": refund.charge}, {"payment_intent": intent.id}):
        assert [found.id for found in (await v1.refunds.list_async(by)).data] == [refund.id]
    assert (await v1.refunds.cancel_async(refund.id)).status == "canceled"


async def test_a_refund_that_is_slow_arrives_when_the_clock_goes_on(v1, world):
    """Nobody has to wait for it."""
    intent = await bought(v1, "pm_card_pendingRefund")
    refund = await v1.refunds.create_async({"payment_intent": intent.id})
    await world.switch("POST", "clock", {"advance_seconds": 60})

    assert (refund.status, (await v1.refunds.retrieve_async(refund.id)).status) == ("pending", "succeeded")


async def test_a_dispute_is_found_answered_and_won(v1, world):
    """Listed by intent at once, as Stripe's own scripts expect; evidence decides."""
    intent = await bought(v1, "pm_card_createDispute")
    await world.told("charge.dispute.funds_withdrawn")
    [dispute] = (await v1.disputes.list_async({"payment_intent": intent.id})).data
    await v1.disputes.update_async(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    await world.told("charge.dispute.funds_reinstated")

    assert (await v1.disputes.retrieve_async(dispute.id)).status == "won"
    with pytest.raises(stripe.InvalidRequestError, match="already closed"):
        await v1.disputes.close_async(dispute.id)


async def test_a_dispute_has_the_keys_of_a_real_one(v1, world):
    """And two that only newer versions have."""
    await bought(v1, "pm_card_createDispute")
    [told] = await world.told("charge.dispute.created")
    recorded = json.loads((EXAMPLES / "charge.dispute.created.chargeback.json").read_text())["data"]["object"]
    ours = told["data"]["object"]

    assert set(ours) - {"intended_submission_method"} == set(recorded)
    assert set(ours["evidence_details"]) - {"submission_method"} == set(recorded["evidence_details"])
    for name in ("evidence", "payment_method_details"):
        assert set(ours[name]) == set(recorded[name])
    assert set(ours["balance_transactions"][0]) == set(recorded["balance_transactions"][0])


# Lists and expansions


@pytest.mark.parametrize("kind", ["charges", "payment_intents", "refunds", "products", "prices"])
async def test_a_list_is_walked_from_both_ends(v1, kind):
    """Everything once, newest first; backwards the oldest first."""
    for number in range(3):
        intent = await bought(v1)
        await v1.refunds.create_async({"payment_intent": intent.id})
        await v1.prices.create_async({"unit_amount": number, "currency": "usd", "product_data": {"name": f"{number}"}})
    service = getattr(v1, kind)
    walked = [one.id async for one in (await service.list_async({"limit": 2})).auto_paging_iter()]
    backwards = [
        one.id async for one in (await service.list_async({"limit": 2, "ending_before": walked[-1]})).auto_paging_iter()
    ]

    assert len(set(walked)) == len(walked) == 3
    assert backwards == walked[1::-1]
    assert (await service.list_async({"created": {"lt": 1000}})).data == []


async def test_sessions_are_found_by_their_intent_and_status(v1, world):
    """What the webhook of an intent does not tell."""
    paid, _ = await world.paid(), await world.session()
    for by in ({"payment_intent": paid.payment_intent}, {"status": "complete"}):
        assert [found.id for found in (await v1.checkout.sessions.list_async(by)).data] == [paid.id]


async def test_objects_are_shown_inside_others_on_request(v1, world):
    """In one answer, in a list, and as deep as asked; what cannot be shown is refused before anything is done."""
    paid = await world.paid()
    wish = {"expand": ["payment_intent.latest_charge.refunds", "line_items", "customer"]}
    await v1.refunds.create_async({"payment_intent": paid.payment_intent, "amount": 1})
    session = await v1.checkout.sessions.retrieve_async(paid.id, wish)
    listed = await v1.charges.list_async({"expand": ["data.payment_intent"]})

    assert session.payment_intent.latest_charge.refunds.data[0].amount == 1
    assert session.line_items.data[0].description == "Coaching with Ana"
    assert listed.data[0].payment_intent.id == paid.payment_intent
    deep = await v1.checkout.sessions.retrieve_async(paid.id, {"expand": ["line_items.data.price.product", "line_items"]})
    items = await v1.checkout.sessions.line_items.list_async(paid.id, {"expand": ["data.price.product"]})
    for item in (deep.line_items.data[0], items.data[0]):
        assert (item.price.product.name, item.price.product.description) == ("Coaching with Ana", "60 minutes")
    assert (await v1.checkout.sessions.retrieve_async(paid.id)).payment_intent == paid.payment_intent
    with pytest.raises(stripe.InvalidRequestError, match=r"cannot be expanded \(wat\)"):
        await v1.refunds.create_async({"payment_intent": paid.payment_intent, "expand": ["wat"]})
    assert len((await v1.refunds.list_async()).data) == 1


# Webhook endpoints


async def test_each_endpoint_is_told_what_it_asked_for_with_its_own_secret(v1, world):
    """pending_webhooks counts who is still owed; deleted, an endpoint hears nothing and is owed nothing."""
    async with listening() as other:
        made = await v1.webhook_endpoints.create_async(
            {"url": other.url, "enabled_events": ["charge.succeeded"], "api_version": "2026-10-28.endive"}
        )
        shown = await v1.webhook_endpoints.retrieve_async(made.id)
        await world.switch("POST", "deliveries/pause")
        intent = await bought(v1)
        [owed] = (await v1.events.list_async({"type": "charge.succeeded"})).data
        await world.switch("POST", "deliveries/resume")
        await until(lambda: other.bodies, "the other endpoint hears it")
        await world.told("payment_intent.succeeded")
        event = stripe.Webhook.construct_event(other.bodies[0], other.headers[0]["Stripe-Signature"], made.secret)
        assert (event.type, event.pending_webhooks, owed.pending_webhooks) == ("charge.succeeded", 2, 2)
        assert other.types == ["charge.succeeded"]
        assert not hasattr(shown, "secret")
        await until_all_delivered(v1.events)

        other.open.clear()
        await bought(v1)
        await v1.webhook_endpoints.delete_async(made.id)
        other.open.set()
        await until_all_delivered(v1.events)
        with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint"):
            await v1.webhook_endpoints.retrieve_async(made.id)
    assert intent.status == "succeeded"


async def test_an_endpoint_outlives_a_restart_with_its_secret(tmp_path, webhook):
    """Made by the API, kept in the file; a deleted one stays away."""
    async with listening() as other:
        async with opened(tmp_path, webhook) as world:
            endpoints = world.client.v1.webhook_endpoints
            kept, gone = [
                await endpoints.create_async({"url": other.url, "enabled_events": ["*"], "description": name})
                for name in ("kept", "gone")
            ]
            await endpoints.delete_async(gone.id)
        async with opened(tmp_path, webhook) as world:
            names = [one.description for one in (await world.client.v1.webhook_endpoints.list_async()).data]
            await world.client.v1.checkout.sessions.expire_async((await world.session()).id)
            await until(lambda: other.bodies, "the other endpoint hears it")

    assert set(names) == {None, "kept"}
    stripe.Webhook.construct_event(other.bodies[0], other.headers[0]["Stripe-Signature"], kept.secret)


# Many at once


async def test_a_hundred_calls_at_once_are_a_hundred_payments(v1):
    """No id twice, no event lost."""
    intents = await asyncio.gather(*(bought(v1) for _ in range(100)))
    told = [event async for event in (await v1.events.list_async({"limit": 100})).auto_paging_iter()]

    assert len({intent.id for intent in intents}) == 100
    assert len({event.id for event in told}) == len(told) >= 300
