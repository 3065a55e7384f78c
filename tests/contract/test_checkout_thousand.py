"""A thousand checkouts of one booking at the same moment, through several processes' worth of code, on a real database."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from ingress.access import Caller
from ingress.checkout import Checkout, Opened
from ingress.checkout_rules import CheckoutParams
from ingress.store import DatabaseAway
from shared.db import engine as engines
from tests.support.door import URLS, ingress_settings, meeting, person
from tests.support.fake_stripe import FakeStripe

CALLS = 1000
PROCESSES = 4
CONNECTIONS_EACH = 4


@pytest.fixture
async def doors(database):
    """The engines of several processes."""
    async with AsyncExitStack() as stack:
        made = [engines.create(database, application=f"door-{n}", pool_size=CONNECTIONS_EACH) for n in range(PROCESSES)]
        for engine in made:
            stack.push_async_callback(engine.dispose)
        yield made


async def told(story, caller, params):
    """Call as a browser would until it hears something about the booking; give the URL that it was told, if any."""
    for _ in range(100):
        try:
            answer = await story.open(caller, params)
        except DatabaseAway:
            continue
        if isinstance(answer, Opened):
            return answer.url
        if answer.code != "stripe_unavailable":
            assert answer.code == "payment_already_exists", answer
            return answer.members["url"]
    raise AssertionError("a hundred times no answer")


@pytest.mark.parametrize("stumbles", [0.0, 0.6], ids=["stripe well", "stripe stumbling"])
async def test_a_thousand_at_once_are_never_shown_two_payable_sessions(doors, database, stumbles):
    """One URL for all of them, whatever Stripe loses, refuses to repeat or makes without telling; one open payment."""
    stripe = FakeStripe(stumbles=stumbles)
    booked = await meeting(doors[0])
    admin = await person(doors[0], "admin")
    callers = (Caller(booked.client.id, "client"), Caller(admin.id, "admin"))
    stories = [Checkout(engine, stripe, ingress_settings(database)) for engine in doors]
    wishes = [CheckoutParams(booked.booking_id, *URLS.values(), key=f"{n}" if n % 3 else None) for n in range(CALLS)]

    urls = await asyncio.gather(*(told(stories[n % PROCESSES], callers[n % 2], params) for n, params in enumerate(wishes)))

    assert len(set(urls)) == 1
    assert set(urls) <= stripe.payable()
    async with doors[0].begin() as tx:
        open_rows = await tx.exec_driver_sql("select stripe_session_id from payments where closed_at is null")
        [session_id] = [row[0] for row in open_rows]
    assert stripe.sessions[session_id].url == urls[0]
    if not stumbles:
        assert len(stripe.sessions) == 1


async def test_an_abandoned_booking_is_never_taken_up_twice_at_once(doors, database):
    """The session that was shown is over, and its webhook never came: all of them are told one and the same new URL."""
    stripe = FakeStripe()
    booked = await meeting(doors[0])
    caller = Caller(booked.client.id, "client")
    stories = [Checkout(engine, stripe, ingress_settings(database)) for engine in doors]
    params = CheckoutParams(booked.booking_id, *URLS.values(), key=None)
    old = await told(stories[0], caller, params)
    [session_id] = stripe.sessions
    stripe.expire(session_id)
    async with doors[0].begin() as tx:
        await tx.exec_driver_sql(
            "update payments set expires_at = $1", (stripe.sessions[session_id].expires_at - timedelta(hours=2),)
        )

    urls = await asyncio.gather(*(told(stories[n % PROCESSES], caller, params) for n in range(CALLS // 5)))

    assert set(urls) == stripe.payable()
    assert old not in urls
    assert len(stripe.sessions) == 2
