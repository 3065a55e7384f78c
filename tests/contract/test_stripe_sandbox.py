"""The official stripe library drives the sandbox over real sockets: objects and errors."""

import json
import time
from pathlib import Path

import aiohttp
import pytest
import stripe

from tests.support.sandboxes import all_delivered, opened, until_all_delivered

EXAMPLES = Path(__file__).parent.parent / "examples" / "stripe"
PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]
NAMELESS = [{"price_data": {"currency": "usd", "unit_amount": 100, "product_data": {"name": ""}}, "quantity": 1}]
# No session of a later version than 2025-06-30.basil was recorded; these keys came since, as Stripe's types have them.
NEWER_THAN_RECORDED = {
    "checkout.session.completed": {
        *("allowed_payment_method_types", "customer_account", "integration_identifier", "managed_payments"),
    }
}


def real(name, *path):
    thing = json.loads((EXAMPLES / f"{name}.json").read_text())
    for step in path:
        thing = thing[step]
    return thing


def newest_first(events):
    return [event.type for event in events.data]


# Sessions


async def test_a_session_is_created_retrieved_and_expired(world):
    """Open with an address and no intent; afterwards expired, without an address, and told."""
    session = await world.session(client_reference_id="p-1", metadata={"a": "1"})
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert session.url == f"{world.url}/c/pay/{session.id}"
    assert session.amount_total == 7500

    expired = await world.client.v1.checkout.sessions.expire_async(session.id)
    again = await world.client.v1.checkout.sessions.retrieve_async(session.id)

    assert ("expired", None) == (expired.status, expired.url) == (again.status, again.url)
    [told] = await world.told("checkout.session.expired")
    assert told["data"]["object"]["metadata"] == {"a": "1"}
    with pytest.raises(stripe.InvalidRequestError, match="status of `expired`"):
        await world.client.v1.checkout.sessions.expire_async(session.id)


async def test_a_session_expires_by_itself_even_if_the_sandbox_was_down(tmp_path, webhook):
    """The hour comes while nobody serves; the next start keeps the promise."""
    async with opened(tmp_path, webhook) as world:
        session = await world.session(expires_at=int(time.time()) + 31 * 60)
    async with opened(tmp_path, webhook, now=lambda: time.time() + 32 * 60) as world:
        await world.told("checkout.session.expired")
        again = await world.client.v1.checkout.sessions.retrieve_async(session.id)

    assert again.status == "expired"


@pytest.mark.parametrize(
    ("wish", "param", "code"),
    [
        ({"wat": "1"}, "wat", "parameter_unknown"),
        ({"payment_intent_data": {"wat": "1"}}, "payment_intent_data[wat]", "parameter_unknown"),
        ({"success_url": "javascript:alert(1)"}, "success_url", "url_invalid"),
        ({"customer_email": "nobody"}, "customer_email", "email_invalid"),
        ({"expires_at": 1}, "expires_at", None),
        ({"expires_at": "soon"}, "expires_at", "parameter_invalid_integer"),
        ({"mode": "subscription"}, "mode", None),
        ({"line_items": []}, "line_items", "parameter_missing"),
        ({"metadata": {"k": "v" * 501}}, "metadata[k]", None),
        ({"line_items": NAMELESS}, "line_items[0][price_data][product_data][name]", "parameter_invalid_empty"),
    ],
)
async def test_a_bad_parameter_is_named(world, wish, param, code):
    """Every refusal says which parameter, in Stripe's words and codes."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await world.session(**wish)

    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)


async def test_refusals_have_the_keys_of_real_ones(world):
    """The error's body is shaped as a recorded one."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await world.session(wat="1")

    recorded = real("api-errors.400", "unknown_param", "error")
    assert set(refused.value.json_body["error"]) == set(recorded)
    assert refused.value.json_body["error"]["message"] == recorded["message"]


@pytest.mark.parametrize(
    ("asked", "status"), [("2020-08-27", 200), ("2025-03-31.basil; a_beta=v2", 200), ("banana", 400), ("", 400)]
)
async def test_the_answer_says_of_which_version_it_is(world, asked, status):
    """Not of another one, for which it might be taken; what is no version is refused."""
    headers = {"Authorization": "Bearer sk_test_x", "Stripe-Version": asked}
    async with world.http.get(f"{world.url}/v1/account", headers=headers) as answer:
        assert (answer.status, answer.headers["Stripe-Version"]) == (status, "2026-10-28.endive")


async def test_a_form_may_be_spelled_with_empty_brackets(world):
    """`a[]` and `a[][b]` mean what `a[0]` and `a[0][b]` mean."""
    body = (
        "mode=payment&success_url=http://127.0.0.1:9/&payment_method_types[]=card&line_items[][quantity]=2"
        "&line_items[][price_data][currency]=EUR&line_items[0][price_data][unit_amount]=100"
        "&line_items[0][price_data][product_data][name]=X"
    )
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    async with world.http.post(f"{world.url}/v1/checkout/sessions", data=body, headers=headers) as answer:
        session = await answer.json()

    assert (session["amount_total"], session["currency"]) == (200, "eur")


# Keys, ids and errors


@pytest.mark.parametrize("key", ["sk_live_x", "nonsense"])
async def test_only_a_test_key_opens(tmp_path, webhook, key):
    """A live key must not be given to a sandbox in silence."""
    async with opened(tmp_path, webhook, key=key) as world:
        with pytest.raises(stripe.AuthenticationError):
            await world.session()


async def test_a_call_without_a_key_is_401_with_stripes_challenge(world):
    """401 with the challenge that Stripe sends."""
    async with world.http.get(f"{world.url}/v1/events") as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Stripe"'
        assert "You did not provide an API key" in (await answer.json())["error"]["message"]


async def test_basic_authentication_is_a_key_too(world):
    """As curl -u sk_test_x: sends it."""
    async with world.http.get(
        f"{world.url}/v1/events", headers={"Authorization": aiohttp.encode_basic_auth("sk_test_x")}
    ) as answer:
        assert answer.status == 200


async def test_what_is_not_there_is_missing(world):
    """Unknown ids are resource_missing; unknown routes say that they are unknown."""
    with pytest.raises(stripe.InvalidRequestError, match="No such charge: 'ch_x'") as refused:
        await world.client.v1.charges.retrieve_async("ch_x")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError, match=r"Unrecognized request URL \(GET: /v1/coupons/x\)"):
        await world.client.v1.coupons.retrieve_async("x")


async def test_every_answer_has_its_own_request_id(world):
    """And events name the call that caused them."""
    ids = [(await world.session()).last_response.request_id for _ in range(3)]
    session = await world.session()
    expired = await world.client.v1.checkout.sessions.expire_async(session.id, options={"idempotency_key": "mine"})
    [told] = await world.told("checkout.session.expired")

    assert len(set(ids)) == 3
    assert told["request"] == {"id": expired.last_response.request_id, "idempotency_key": "mine"}


# Refunds and events


async def test_refunds_in_parts_in_full_and_too_much(world):
    """By intent and by charge; the sum never exceeds the charge."""
    session = await world.paid()
    refunds = world.client.v1.refunds
    part = await refunds.create_async({"payment_intent": session.payment_intent, "amount": 1500, "metadata": {"a": "1"}})
    with pytest.raises(stripe.InvalidRequestError, match=r"\(\$75.00\) is greater than unrefunded .* \(\$60.00\)"):
        await refunds.create_async({"charge": part.charge, "amount": 7500})
    rest = await refunds.create_async({"charge": part.charge, "reason": "requested_by_customer"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refunds.create_async({"payment_intent": session.payment_intent})
    shown = await refunds.retrieve_async(part.id)

    assert (part.amount, rest.amount, shown.metadata.a) == (1500, 6000, "1")
    assert refused.value.code == "charge_already_refunded"
    told = [event["data"] for event in await world.told("charge.refunded", times=2)]
    assert [(data["object"]["amount_refunded"], data["object"]["refunded"]) for data in told] == [
        (1500, False),
        (7500, True),
    ]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "One of the following params should be provided for this request: payment_intent or charge."),
        ({"charge": "ch_x"}, "No such charge: 'ch_x'"),
        ({"charge": "ch_x", "amount": 0}, "This value must be greater than or equal to 1."),
        (
            {"charge": "ch_x", "reason": "whim"},
            "Invalid reason: must be one of duplicate, fraudulent, or requested_by_customer",
        ),
    ],
)
async def test_a_wrong_refund_is_refused_in_stripes_words(world, wish, message):
    """What was recorded from the real API is what is said here."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await world.client.v1.refunds.create_async(wish)

    assert refused.value.user_message == message


async def test_what_was_not_paid_cannot_be_refunded(world):
    """An intent whose card was declined has nothing to give back."""
    session = await world.session()
    await world.pay(session, "4000000000000002")
    [failed] = await world.told("payment_intent.payment_failed")
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge to refund"):
        await world.client.v1.refunds.create_async({"payment_intent": failed["data"]["object"]["id"]})


async def test_events_can_be_listed_walked_and_filtered(world):
    """Newest first; oldest first by paging backwards; by type, time and delivery."""
    await world.paid()
    events = world.client.v1.events
    await world.told("charge.updated")
    everything = await events.list_async({"limit": 100})
    oldest = everything.data[-1]
    backwards = await events.list_async({"limit": 2, "ending_before": oldest.id})

    assert newest_first(everything) == ["charge.updated", *reversed(PAID)]
    assert [event.type async for event in backwards.auto_paging_iter()] == [*PAID[1:], "charge.updated"]
    assert newest_first(await events.list_async({"types": PAID[:2]})) == PAID[1::-1]
    assert newest_first(await events.list_async({"created": {"gt": oldest.created + 1000}})) == []
    await until_all_delivered(events)
    assert newest_first(await events.list_async({"delivery_success": False})) == []
    assert (await events.retrieve_async(oldest.id)).data.object.id == oldest.data.object.id


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        ("checkout.session.completed", "checkout.session.create-response.open"),
        ("payment_intent.succeeded", "payment_intent.succeeded.2026-08"),
        ("charge.refunded", "charge.refunded.partial"),
        ("refund.created", "refund.created.partial"),
    ],
)
async def test_objects_have_the_keys_of_the_newest_real_ones(world, kind, sample):
    """Not a key more, not a key less, in the event, the object and what it holds; but for what came to sessions since."""
    session = await world.paid()
    await world.client.v1.refunds.create_async({"payment_intent": session.payment_intent, "amount": 100})
    [told] = await world.told(kind)
    ours = told["data"]["object"]
    theirs = real(sample) if kind.startswith("checkout") else real(sample, "data", "object")

    assert set(told) == set(real("payment_intent.succeeded.2026-08"))
    assert [key for key in ours if key not in NEWER_THAN_RECORDED.get(kind, ())] == list(theirs)
    assert NEWER_THAN_RECORDED.get(kind, set()) <= set(ours)
    for key in ("payment_method_details", "outcome", "billing_details", "destination_details", "total_details"):
        assert shape(ours.get(key)) == shape(theirs.get(key))


async def test_a_failed_intent_tells_as_much_as_a_real_one(world):
    """The error and its payment method have every key of a recorded decline."""
    await world.pay(await world.session(), "4000000000000002")
    [told] = await world.told("payment_intent.payment_failed")
    recorded = real("payment_intent.payment_failed.card_declined", "data", "object", "last_payment_error")
    ours = told["data"]["object"]["last_payment_error"]
    assert ours["payment_method"].pop("customer_account", ...) is None  # newer than the recorded one

    assert shape(ours) == shape(recorded)


def shape(thing):
    """The keys of an object, all the way down."""
    return {key: shape(value) for key, value in thing.items()} if isinstance(thing, dict) else None


# Endpoints


async def test_the_endpoint_is_told_of_what_it_asked_for_and_of_nothing_while_disabled(world):
    """What the API says of the endpoint is what its webhook feels."""
    endpoints = world.client.v1.webhook_endpoints
    [endpoint] = (await endpoints.list_async()).data
    assert (endpoint.url, endpoint.status, endpoint.enabled_events) == (world.webhook.url, "enabled", ["*"])

    await endpoints.update_async(endpoint.id, {"enabled_events": ["checkout.session.expired"]})
    await world.paid()
    await endpoints.update_async(endpoint.id, {"disabled": True})
    await world.client.v1.checkout.sessions.expire_async((await world.session()).id)
    await endpoints.update_async(endpoint.id, {"disabled": False})
    await world.client.v1.checkout.sessions.expire_async((await world.session()).id)
    await world.told("checkout.session.expired")

    assert world.webhook.types == ["checkout.session.expired"]
    assert await all_delivered(world.client.v1.events)
    assert (await endpoints.retrieve_async(endpoint.id)).status == "enabled"


async def test_the_endpoint_keeps_its_id_and_switches_over_a_restart(tmp_path, webhook):
    """And follows the address that the sandbox is started with."""
    async with opened(tmp_path, webhook) as world:
        [endpoint] = (await world.client.v1.webhook_endpoints.list_async()).data
        await world.client.v1.webhook_endpoints.update_async(endpoint.id, {"disabled": True})
    webhook.url += "?moved"
    async with opened(tmp_path, webhook) as world:
        [again] = (await world.client.v1.webhook_endpoints.list_async()).data

    assert (again.id, again.status, again.url) == (endpoint.id, "disabled", webhook.url)
