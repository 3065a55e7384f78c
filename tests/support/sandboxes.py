"""A Stripe sandbox on a free port, the webhook that it tells, and a customer who fills in its page."""

import asyncio
import json
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import aiohttp
import stripe
from aiohttp import web

from deploy.dev.stripe import open_sandbox
from shared import clock
from shared.stripe_api import SessionRequest
from tests.referees import watch
from tests.support.waiting import until

SECRET = "whsec_of_these_tests_and_long_enough"


@dataclass
class Webhook:
    """Takes deliveries; answers what `answers` says, one each, and then 200."""

    url: str = ""
    answers: list = field(default_factory=list)
    bodies: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def types(self):
        return [json.loads(body)["type"] for body in self.bodies]

    def events(self, kind):
        return [event for body in self.bodies if (event := json.loads(body))["type"] == kind]

    async def take(self, request):
        self.bodies.append(await request.read())
        self.headers.append(request.headers)
        status = self.answers.pop(0) if self.answers else 200
        await self.open.wait()
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else None)


@dataclass
class World:
    """What a test of the sandbox holds in its hands."""

    url: str
    webhook: Webhook
    client: stripe.StripeClient
    http: aiohttp.ClientSession

    async def session(self, **wish):
        return await self.client.v1.checkout.sessions.create_async(order(**wish))

    async def pay(self, session, number="4242424242424242", **typed):
        form = {"email": "ada@example.org", "number": number, "expiry": "12/34", "cvc": "123"} | typed
        async with self.http.post(session.url, data=form, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location"), await answer.text()

    async def promise(self, session):
        """Pay by a bank's debit, whose money takes days; it is returned in the end, so that the session is never paid."""
        return await self.pay(session, number="", iban="AT86 1904 3002 3547 3202")

    async def paid(self, **wish):
        """A session that was paid, as Stripe shows it afterwards."""
        session = await self.session(**wish)
        assert (await self.pay(session))[0] == 303
        return await self.client.v1.checkout.sessions.retrieve_async(session.id)

    async def told(self, kind, times=1):
        """The events of this kind, once so many have arrived."""
        await until(lambda: len(self.webhook.events(kind)) >= times, f"{kind} arrives {times} times")
        return self.webhook.events(kind)

    async def switch(self, method, path, body=None):
        async with self.http.request(method, f"{self.url}/_sandbox/{path}", json=body) as answer:
            return answer.status, await answer.json()


def order(amount=7500, currency="usd", **wish):
    product = {"name": "Coaching with Ana", "description": "60 minutes"}
    price = {"currency": currency, "unit_amount": amount, "product_data": product}
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "success_url": "http://127.0.0.1:9/thanks?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1:9/back",
    } | wish


def session_request(**changes):
    """What checkout asks of Stripe for a payment."""
    asked = SessionRequest(
        payment_id=uuid.uuid4(),
        booking_id=uuid.uuid4(),
        amount_minor=7500,
        currency="USD",
        item_name="Coaching session with Grace Hopper, 60 min",
        customer_email="ada@example.com",
        success_url="https://app.culturebridge.com/success",
        cancel_url="https://app.culturebridge.com/cancel",
        expires_at=clock.now().replace(microsecond=0) + timedelta(hours=1),
    )
    return replace(asked, **changes)


async def all_delivered(events):
    return (await events.list_async({"delivery_success": False})).data == []


async def until_all_delivered(events):
    """Return once nothing is owed any more, to whichever endpoint."""
    await until(lambda: all_delivered(events), "every event is delivered")


@asynccontextmanager
async def listening():
    """A webhook on a free port."""
    webhook = Webhook()
    webhook.open.set()
    app = web.Application()
    app.router.add_post("/hook", webhook.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    webhook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield webhook
    finally:
        webhook.open.set()
        await runner.cleanup()


@asynccontextmanager
async def opened(folder, webhook, *, key="sk_test_x", **wish):
    """A sandbox that tells this webhook, with the official library as its client; referees watch what leaves it."""
    with watch.over_sockets():
        async with (
            open_sandbox(webhook_url=webhook.url, webhook_secret=SECRET, state_folder=folder, **wish) as sandbox,
            aiohttp.ClientSession() as http,
        ):
            transport = stripe.AIOHTTPClient()
            url = sandbox.settings.public_url
            yield World(url, webhook, stripe.StripeClient(key, http_client=transport, base_addresses={"api": url}), http)
            await transport.close_async()


async def expired(world, **wish):
    """Make one event: a session that is expired."""
    session = await world.session(**wish)
    return await world.client.v1.checkout.sessions.expire_async(session.id)


async def shown(world):
    """Every delivery with its attempts, as the switches show them."""
    return (await world.switch("GET", "deliveries"))[1]["deliveries"]
