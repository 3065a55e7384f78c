"""The switches of the sandbox: each makes the bad day that it names, and nothing else."""

import asyncio
import hashlib
import hmac
import json
import re
import time

import pytest
import stripe
from typer.testing import CliRunner

from deploy.dev.cli import app
from deploy.dev.errors import BoxError
from deploy.dev.stripe.deliveries import LIVE_SCHEDULE_SECONDS
from deploy.dev.stripe.switchboard import BUTTONS
from tests.sandboxes import SECRET, listening, opened, until_all_delivered
from tests.waiting import until

HOUR, DAY = 3600, 24 * 3600
PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]


async def expired(world, **wish):
    """Make one event: a session that is expired."""
    session = await world.session(**wish)
    return await world.client.v1.checkout.sessions.expire_async(session.id)


async def shown(world):
    return (await world.switch("GET", "deliveries"))[1]["deliveries"]


# Deliveries


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


# Forgeries


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


# Losses


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


# The clock


async def test_an_advanced_clock_expires_sessions_at_their_hour(world):
    """The event is born when it fell due, not when the clock stopped; a signature is of the real time all the same."""
    session = await world.session()
    await world.switch("POST", "clock", {"advance_seconds": 3 * DAY})
    [told] = await world.told("checkout.session.expired")

    assert told["created"] == session.expires_at
    stripe.Webhook.construct_event(world.webhook.bodies[0], world.webhook.headers[0]["Stripe-Signature"], SECRET)


async def test_an_advanced_clock_hurries_retries(world):
    """Live retries take days of the sandbox's clock, none of ours."""
    await world.switch("PUT", "deliveries", {"retry_schedule_seconds": "live"})
    world.webhook.answers = [500] * 3
    await expired(world)
    for step in LIVE_SCHEDULE_SECONDS[:3]:
        await until(lambda: world.webhook.answers == [] or len(world.webhook.bodies), "an attempt arrives")
        attempts = len(world.webhook.bodies)
        await until(lambda n=attempts: recorded(world, n), "the attempt is written down")
        await world.switch("POST", "clock", {"advance_seconds": step + 1})
        await until(lambda n=attempts: len(world.webhook.bodies) > n, "the next attempt arrives")

    await until_all_delivered(world.client.v1.events)
    assert sum(LIVE_SCHEDULE_SECONDS) == pytest.approx(3 * DAY, rel=0.02)


async def recorded(world, attempts):
    return len((await shown(world))[0]["attempts"]) == attempts


async def test_a_cleared_clock_is_right_again(world):
    """New sessions are of today."""
    await world.switch("POST", "clock", {"advance_seconds": DAY})
    ahead = (await world.session()).created
    await world.switch("POST", "clear")

    assert ahead - (await world.session()).created == pytest.approx(DAY, abs=60)


async def test_a_cleared_clock_holds_nothing_back(world):
    """A retry, and what follows a payment by itself, are not left waiting for a day that is over."""
    await world.switch("POST", "clock", {"advance_seconds": DAY})
    world.webhook.answers = [500]
    await world.paid()
    await until(lambda: attempted(world), "an attempt is written down")
    await world.switch("POST", "clear")

    await world.told("charge.updated")
    await until_all_delivered(world.client.v1.events)


async def attempted(world):
    return any(delivery["attempts"] and delivery["state"] == "pending" for delivery in await shown(world))


async def test_what_was_put_off_comes_after_a_restart(tmp_path, webhook):
    """Switches are of one process: a restart puts them to rest, and the clock."""
    webhook.answers = [500] * 9
    async with opened(tmp_path, webhook) as world:
        await world.switch("PUT", "deliveries", {"retry_schedule_seconds": [3 * HOUR]})
        await expired(world)
        await until(lambda: attempted(world), "an attempt is written down")
    async with opened(tmp_path, webhook) as world:
        [owed] = await shown(world)

    assert owed["due_at"] - time.time() < 60


# Secrets


async def test_both_secrets_sign_until_the_old_one_is_over(world):
    """One v1 for each; an hour later only the new one's."""
    [ours] = (await world.client.v1.webhook_endpoints.list_async()).data
    _, rolled = await world.switch("POST", f"webhook_endpoints/{ours.id}/roll", {"overlap_seconds": HOUR})
    await expired(world)
    await until(lambda: len(world.webhook.bodies) == 1, "one delivery arrives")
    for secret in (SECRET, rolled["secret"]):
        stripe.Webhook.construct_event(world.webhook.bodies[0], world.webhook.headers[0]["Stripe-Signature"], secret)
    await world.switch("POST", "clock", {"advance_seconds": HOUR + 1})
    await expired(world)
    await until(lambda: len(world.webhook.bodies) == 2, "two deliveries arrive")
    body, header = world.webhook.bodies[1], world.webhook.headers[1]["Stripe-Signature"]

    stripe.Webhook.construct_event(body, header, rolled["secret"])
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, header, SECRET)


async def test_a_rolled_secret_outlives_a_restart(tmp_path, webhook):
    """Started again with the old one, the sandbox signs with both."""
    async with opened(tmp_path, webhook) as world:
        [ours] = (await world.client.v1.webhook_endpoints.list_async()).data
        _, rolled = await world.switch("POST", f"webhook_endpoints/{ours.id}/roll", {})
    async with opened(tmp_path, webhook) as world:
        await expired(world)
        await until(lambda: len(webhook.bodies) == 1, "one delivery arrives")

    stripe.Webhook.construct_event(webhook.bodies[0], webhook.headers[0]["Stripe-Signature"], rolled["secret"])


# The three ways to pull them


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "deliveries", {"order": "sideways"}, 400),
        ("PUT", "deliveries", {"forgeries": ["whim"]}, 400),
        ("PUT", "deliveries", {"duplicate_share": 2}, 400),
        ("POST", "losses", {"type": "x", "times": 0}, 400),
        ("POST", "clock", {"advance_seconds": -1}, 400),
        ("POST", "deliveries/pause", {"endpoint": "we_x"}, 404),
        ("POST", "events/evt_x/forge", {"kind": "oversized"}, 404),
        ("POST", "webhook_endpoints/we_x/roll", {}, 404),
    ],
)
async def test_a_word_that_no_switch_knows_is_refused(world, method, path, body, status):
    """A typing error in a test must not pass for a quiet day."""
    answered, said = await world.switch(method, path, body)

    assert (answered, bool(said["error"])) == (status, True)


async def test_every_button_works(world):
    """Each press leads back to the page; the last one puts everything to rest."""
    await expired(world)
    [told] = await world.told("checkout.session.expired")
    for name in BUTTONS:
        form = {"button": name, "event": told["id"]}
        async with world.http.post(f"{world.url}/switches", data=form, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/switches"), BUTTONS[name].label
    async with world.http.get(f"{world.url}/switches") as answer:
        page = await answer.text()

    assert "an ordinary day" in page
    assert len(world.webhook.bodies) >= 2


async def test_the_page_says_what_is_on(world):
    """And what went wrong with a press."""
    await world.switch("PUT", "deliveries", {"duplicates": 2})
    await world.switch("POST", "losses", {"type": "charge.refunded"})
    redeliver = next(name for name, button in BUTTONS.items() if button.wants)
    async with world.http.post(f"{world.url}/switches", data={"button": redeliver, "event": "evt_x"}) as answer:
        page = await answer.text()

    assert answer.status == 404
    assert "No such event: &#39;evt_x&#39;" in page
    assert "duplicates: 2" in page
    assert "charge.refunded: lost" in page


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["deliveries", "--duplicates", "2", "--order", "1,0", "--retry", "1,2"], '"order": [\n    1,\n    0\n  ]'),
        (["deliveries", "--retry", "live", "--forge", "thin_event"], '"thin_event"'),
        (["fault", "POST /v1/refunds", "error_after", "--times", "3"], '"times": 3'),
        (["lose", "charge.refunded"], '"type": "charge.refunded"'),
        (["clock", "2h"], '"ahead_seconds": 7200'),
        (["pause"], '"paused": true'),
        (["resume"], '"paused": false'),
        (["show"], '"deliveries"'),
        (["clear"], '"faults": []'),
    ],
)
async def test_cb_dev_pulls_the_same_switches(world, words, seen):
    """What the sandbox answers is what is shown."""
    command, *rest = words
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", command, *rest, "--url", world.url])

    assert ran.exit_code == 0, ran.output
    assert seen in ran.output


@pytest.mark.parametrize("words", [["fault", "POST /v1/nothing", "cut"], ["redeliver", "evt_x"], ["forge", "evt_x", "whim"]])
async def test_cb_dev_says_what_the_sandbox_refused(world, words):
    """One line, no traceback."""
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", *words, "--url", world.url])

    assert isinstance(ran.exception, BoxError)
    assert str(ran.exception).startswith("the sandbox refuses: ")


@pytest.mark.parametrize(
    "words",
    [
        ["deliveries", "--retry", "soon"],
        ["deliveries", "--order", "1,,2"],
        ["deliveries", "--order", "1.5"],
        ["clock", "1.2.3h"],
    ],
)
def test_cb_dev_names_the_word_that_is_mistyped(words):
    """As any wrong word of a command: how to write it, and status 2; nobody was asked."""
    ran = CliRunner().invoke(app, ["stripe", *words, "--url", "http://127.0.0.1:1"])

    assert (ran.exit_code, type(ran.exception)) == (2, SystemExit)
    assert "give " in ran.output


async def test_cb_dev_finds_the_sandbox_past_a_proxy_and_a_slash_too_many(world, monkeypatch):
    """A company's proxy does not lead to this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", "clear", "--url", f"{world.url}/"])

    assert ran.exit_code == 0, ran.exception


@pytest.mark.parametrize("words", [["redeliver", "evt x"], ["roll", "we/../x"]])
async def test_cb_dev_takes_any_id(world, words):
    """One that cannot be, too, is for the sandbox to refuse."""
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", *words, "--url", world.url])

    assert str(ran.exception).startswith("the sandbox refuses: No such")


@pytest.mark.parametrize("answers", ["404", "what it is", "nothing", "no address"])
async def test_cb_dev_says_that_something_else_answers(world, answers):
    """One line, no traceback: another server, a page, a closed connection, or no address at all."""
    mute = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with mute:
        url = {
            "404": f"{world.url}/nowhere",
            "what it is": f"{world.url}/_assets/page.js?",
            "nothing": f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}",
            "no address": "localhost",
        }[answers]
        ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", "show", "--url", url])

    assert isinstance(ran.exception, BoxError), ran.exception
    assert str(ran.exception).startswith(f"no sandbox answers at {url}: ")
