"""Deliveries and the API's bad days: what the sandbox does by itself, and what its switches make of it."""

import json
import time

import aiohttp
import pytest
import stripe

from tests.support.sandboxes import opened, order, until_all_delivered
from tests.support.waiting import until

CREATE = "POST /v1/checkout/sessions"


async def test_a_refused_delivery_is_tried_again_with_a_new_signature(world):
    """500, a redirect and 400 are failures alike; the redirect is not followed; the bytes stay the same."""
    await world.switch("PUT", "deliveries", {"retry_schedule_seconds": [0.05]})
    session = await world.session()
    world.webhook.answers = [500, 302, 400]
    await world.client.v1.checkout.sessions.expire_async(session.id)
    await until(lambda: len(world.webhook.bodies) == 4, "four attempts arrive")
    await until_all_delivered(world.client.v1.events)
    _, shown = await world.switch("GET", "deliveries")

    [delivery] = shown["deliveries"]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 302, 400, 200]
    assert all(attempt["latency_ms"] > 0 for attempt in delivery["attempts"])
    assert (delivery["type"], delivery["state"]) == ("checkout.session.expired", "delivered")
    assert len(set(world.webhook.bodies)) == 1


async def test_what_is_owed_is_delivered_after_a_restart(tmp_path, webhook):
    """A sandbox that stops in the middle owes what it owed."""
    webhook.answers = [503] * 4
    async with opened(tmp_path, webhook) as world:
        await world.switch("POST", "deliveries/pause")
        session = await world.session()
        await world.client.v1.checkout.sessions.expire_async(session.id)
        assert webhook.bodies == []
    webhook.answers = []
    async with opened(tmp_path, webhook) as world:
        [told] = await world.told("checkout.session.expired")

    assert told["data"]["object"]["id"] == session.id


async def test_deliveries_are_held_doubled_and_shuffled(world):
    """Paused, nothing goes; then each event comes as often as asked, in another order."""
    await world.switch("PUT", "deliveries", {"duplicates": 2, "reorder_ms": 1500, "paused": True})
    for _ in range(5):
        await world.client.v1.checkout.sessions.expire_async((await world.session()).id)
    _, shown = await world.switch("GET", "deliveries")
    all_due = max(delivery["due_at"] for delivery in shown["deliveries"])
    await until(lambda: time.time() > all_due + 0.2, "all are due")
    assert world.webhook.bodies == []
    await world.switch("POST", "deliveries/resume")
    await until(lambda: len(world.webhook.bodies) == 15, "fifteen deliveries arrive")

    arrived = [json.loads(body)["id"] for body in world.webhook.bodies]
    born = [event.id for event in (await world.client.v1.events.list_async()).data][::-1]
    assert sorted(arrived) == sorted(born * 3)
    assert arrived != [event_id for event_id in born for _ in range(3)]


async def test_an_event_is_sent_again_on_request(world):
    """Even a delivered one; an unknown one is said to be unknown."""
    await world.client.v1.checkout.sessions.expire_async((await world.session()).id)
    [told] = await world.told("checkout.session.expired")
    assert (await world.switch("POST", f"events/{told['id']}/redeliver"))[0] == 200
    again = await world.told("checkout.session.expired", times=2)

    assert again == [told, told]
    assert (await world.switch("POST", "events/evt_x/redeliver"))[0] == 404


async def test_an_error_before_the_effect_does_nothing(world):
    """The library's own retry, under the same key, then makes one session."""
    await world.switch("POST", "faults", {"route": CREATE, "kind": "error_before"})
    with pytest.raises(stripe.APIError):
        await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"})
    session = await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"})

    assert session.status == "open"


async def test_an_error_after_the_effect_is_the_answer_for_good(world):
    """The refund happened, and its key will say 500 until it is forgotten."""
    session = await world.paid()
    await world.switch("POST", "faults", {"route": "POST /v1/refunds", "kind": "error_after"})
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await world.client.v1.refunds.create_async({"payment_intent": session.payment_intent}, {"idempotency_key": "k"})

    [told] = await world.told("charge.refunded")
    assert told["data"]["object"]["refunded"] is True


@pytest.mark.parametrize(
    ("kind", "error"),
    [("conflict", stripe.APIError), ("rate_limit", stripe.RateLimitError), ("cut", aiohttp.ClientPayloadError)],
)
async def test_faults_are_what_the_library_makes_of_them(world, kind, error):
    """409, 429 and a torn body, each once; then all is well."""
    await world.switch("POST", "faults", {"route": CREATE, "kind": kind})
    with pytest.raises(error):
        await world.session()

    assert (await world.session()).status == "open"


async def test_a_hang_after_the_effect_keeps_the_answer(world):
    """The client hears nothing; asked again with the key, it hears what was done."""
    await world.switch("POST", "faults", {"route": CREATE, "kind": "hang_after", "seconds": 0.1})
    with pytest.raises(stripe.APIConnectionError):
        await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"})
    session = await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"})

    assert session.last_response.headers["Idempotent-Replayed"] == "true"


async def test_clear_puts_everything_to_rest(world):
    """One call, and the next day is an ordinary one."""
    await world.switch("POST", "faults", {"route": CREATE, "kind": "rate_limit", "times": 9})
    await world.switch("PUT", "deliveries", {"paused": True, "duplicates": 3})
    await world.switch("POST", "clear")
    await world.client.v1.checkout.sessions.expire_async((await world.session()).id)

    assert len(await world.told("checkout.session.expired")) == 1


async def test_the_front_page_shows_what_happened(world):
    """Checkouts and webhooks, for a person."""
    await world.paid()
    await until_all_delivered(world.client.v1.events)
    async with world.http.get(world.url) as answer:
        page = await answer.text()

    assert "checkout.session.completed" in page
    assert "$75.00" in page
