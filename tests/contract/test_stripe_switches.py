"""The sandbox's bad days: what its switches do to deliveries, each the one thing that it names."""

import asyncio
import hashlib
import hmac
import json
import re
import time

import pytest

from tests.support.sandboxes import SECRET, expired, listening, shown, until_all_delivered
from tests.support.waiting import until

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]


async def test_what_is_still_owed_is_listed_until_it_was_taken(world):
    """Whoever waits for quiet need not read all that ever was."""
    await world.switch("POST", "deliveries/pause")
    session = await expired(world)
    _, [owed] = await world.switch("GET", "deliveries/pending")
    [event] = (await world.client.v1.events.list_async()).data
    assert (owed["event_id"], owed["state"], event.data.object.id) == (event.id, "pending", session.id)
    await world.switch("POST", "deliveries/resume")

    async def nothing_is_owed():
        return await world.switch("GET", "deliveries/pending") == (200, [])

    await until(nothing_is_owed, "nothing is owed")


async def test_twins_are_two_events_for_one_change(world):
    """Two ids, one object, one type; both are listed."""
    await world.switch("PUT", "deliveries", {"twins": 1})
    await expired(world)
    one, other = await world.told("checkout.session.expired", times=2)
    listed = await world.client.v1.events.list_async()

    assert one["id"] != other["id"]
    assert one["data"] == other["data"]
    assert {event.id for event in listed.data} == {one["id"], other["id"]}


@pytest.mark.parametrize(
    ("order", "arrived"),
    [
        ("oldest_last", [*PAID[1:], PAID[0]]),
        ("newest_first", PAID[::-1]),
        ([3, 0], [PAID[3], PAID[0], PAID[1], PAID[2]]),
    ],
)
async def test_the_events_of_one_change_arrive_in_the_order_that_was_asked_for(world, order, arrived):
    """Each waits until the one before it was answered."""
    await world.switch("PUT", "deliveries", {"order": order})
    await world.paid()
    await until(lambda: len(world.webhook.bodies) >= 4, "four deliveries arrive")

    assert world.webhook.types[:4] == arrived


async def test_first_attempts_get_lost_and_the_next_arrives(world):
    """The receiver never hears of the first two."""
    await world.switch("PUT", "deliveries", {"drop_first": 2, "retry_schedule_seconds": [0.01]})
    await expired(world)
    await until_all_delivered(world.client.v1.events)

    [delivery] = await shown(world)
    assert [attempt["status"] for attempt in delivery["attempts"]] == [None, None, 200]
    assert len(world.webhook.bodies) == 1


async def test_a_late_event_is_late(world):
    """Nothing before the delay is over."""
    await world.switch("PUT", "deliveries", {"delay_ms": 150})
    begun = time.time()
    await expired(world)
    await world.told("checkout.session.expired")

    assert time.time() - begun >= 0.15


async def test_a_share_of_events_comes_twice(world):
    """None of them at 0; the dice, begun anew, fall as before."""
    await world.switch("PUT", "deliveries", {"duplicates": 1, "duplicate_share": 0.0})
    await expired(world)
    rounds = []
    for _ in range(2):
        before = len(await shown(world))
        await world.switch("PUT", "deliveries", {"duplicates": 1, "duplicate_share": 0.5, "seed": 4})
        for _ in range(8):
            await expired(world)
        rounds.append([delivery["reason"] for delivery in (await shown(world))[before:]])

    assert before >= 1 + 8
    assert rounds[0] == rounds[1]
    assert 0 < rounds[0].count("duplicate") < 8


async def test_one_endpoint_may_be_held_while_another_is_told(world):
    """Paused by its id, it hears nothing while the other does; resumed, it gets what it missed."""
    [ours] = (await world.client.v1.webhook_endpoints.list_async()).data
    async with listening() as other:
        await world.client.v1.webhook_endpoints.create_async({"url": other.url, "enabled_events": ["*"]})
        await world.switch("POST", "deliveries/pause", {"endpoint": ours.id})
        for heard in (1, 2):  # one after the other: what was not held would have left before the second
            await expired(world)
            await until(lambda n=heard: len(other.bodies) == n, "the other endpoint hears it")
        assert world.webhook.bodies == []
        await world.switch("POST", "deliveries/resume", {"endpoint": ours.id})
        await world.told("checkout.session.expired", times=2)


def is_signed(body, header):
    at, v1 = re.match(r"t=(\d+),v1=([0-9a-f]{64})", header).groups()
    return hmac.compare_digest(v1, hmac.digest(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hex())


@pytest.mark.parametrize(
    ("kind", "is_forged"),
    [
        ("stale_timestamp", lambda _body, header: int(re.match(r"t=(\d+)", header)[1]) < time.time() - 300),
        ("wrong_signature", lambda body, header: not is_signed(body, header)),
        ("wrong_livemode", lambda body, _: json.loads(body)["livemode"] is True),
        ("foreign_account", lambda body, _: json.loads(body)["account"].startswith("acct_")),
        ("thin_event", lambda body, _: json.loads(body)["object"] == "v2.core.event" and "data" not in json.loads(body)),
        ("oversized", lambda body, _: len(body) > 512 * 1024),
        ("not_utf8", lambda body, _: b"\xff" in body),
    ],
)
async def test_a_forgery_is_wrong_in_one_way_and_comes_once(world, kind, is_forged):
    """Refused, it is not tried again; the true event is another delivery, and all but one kind bear a true signature."""
    await expired(world)
    [told] = await world.told("checkout.session.expired")
    world.webhook.answers = [400]
    _, [sent] = await world.switch("POST", f"events/{told['id']}/forge", {"kind": kind})
    await until(lambda: len(world.webhook.bodies) == 2, "two deliveries arrive")
    await until_all_delivered(world.client.v1.events)
    body, header = world.webhook.bodies[1], world.webhook.headers[1]["Stripe-Signature"]

    assert is_forged(body, header)
    assert is_signed(body, header) is (kind != "wrong_signature")
    [_, forgery] = await shown(world)
    assert (sent["id"], forgery["state"], len(forgery["attempts"])) == (forgery["id"], "given_up", 1)


async def test_an_accepted_forgery_settles_nothing(world):
    """An event is still owed when only a forgery of it was taken."""
    world.webhook.answers = [200, 500, 500, 500]
    await world.switch("PUT", "deliveries", {"forgeries": ["wrong_livemode"], "delay_ms": 50, "retry_schedule_seconds": [60]})
    await expired(world)
    await until(lambda: len(world.webhook.bodies) == 2, "two deliveries arrive")
    [listed] = (await world.client.v1.events.list_async({"delivery_success": False})).data

    assert (listed.type, listed.pending_webhooks) == ("checkout.session.expired", 1)


async def test_a_lost_event_is_nowhere(world):
    """No webhook tells of it and no list shows it; the object changed all the same, and the next event comes."""
    await world.switch("POST", "losses", {"type": "payment_intent.succeeded"})
    session = await world.paid()
    await world.told("checkout.session.completed")
    listed = [event.type for event in (await world.client.v1.events.list_async()).data]
    intent = await world.client.v1.payment_intents.retrieve_async(session.payment_intent)

    assert intent.status == "succeeded"
    assert "payment_intent.succeeded" not in world.webhook.types + listed
    await world.paid()
    assert len(await world.told("payment_intent.succeeded")) == 1


async def test_the_customer_does_not_wait_for_a_lost_event(world):
    """Nobody will ever answer it."""
    await world.switch("POST", "losses", {"type": "checkout.session.completed"})

    async with asyncio.timeout(5):
        assert (await world.pay(await world.session()))[0] == 303
