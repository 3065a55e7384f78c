"""The sandbox's own clock: what falls due when it is put ahead, and that nothing is left behind when it is put back."""

import time

import pytest
import stripe

from deploy.dev.stripe.deliveries import LIVE_SCHEDULE_SECONDS
from tests.support.sandboxes import SECRET, expired, opened, shown, until_all_delivered
from tests.support.waiting import until

HOUR, DAY = 3600, 24 * 3600


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
