"""Composition root: every route, middleware and resource of the door on one screen.

Enters: settings, and the three resources that `opened` holds. Leaves: an aiohttp application. First stop of the
walk: webhook.py.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from pydantic import model_validator
from sqlalchemy.ext.asyncio import AsyncEngine

from ingress import http_rules, keys, pages
from ingress.checkout import Checkout, Stripe
from ingress.checkout_http import CheckoutHandler
from ingress.connections import Connections
from ingress.payments import PaymentHandler
from ingress.publisher import Publisher
from ingress.webhook import Publishes, WebhookHandler
from shared import http_servers, settings, topics
from shared.db import engine as engines
from shared.stripe_api import StripeApi
from shared.stripe_events import WEBHOOK_PATH

DATABASE_CONNECTIONS_MAX = 10  # a transaction takes milliseconds; more callers than that wait for their turn

CHECKOUT = "/payment/checkout"
# `checkout` and `webhook` are no payment ids, also for methods that those routes do not have.
PAYMENT = "/payment/{payment_id:(?!checkout$|webhook$)[^/]+}"
PAYMENT_SHOWN = "/payment/{payment_id}"


class IngressSettings(
    settings.Database,
    settings.Kafka,
    settings.StripeApi,
    settings.Webhook,
    settings.Jwt,
    settings.Checkout,
    settings.Http,
    settings.Health,
):
    """All settings that the door reads from its environment."""

    health_port: int = 8001

    @model_validator(mode="after")
    def _keys_are_strong(self) -> "IngressSettings":
        if (fault := keys.fault(self, self.webhook_secrets)) is not None:
            raise ValueError(fault)
        return self


@dataclass(frozen=True, slots=True)
class Resources:
    """What the door keeps open while it runs."""

    engine: AsyncEngine
    stripe: Stripe
    publisher: Publishes
    connections: Connections


@asynccontextmanager
async def opened(configured: IngressSettings, connections: Connections) -> AsyncIterator[tuple[web.Application, Publisher]]:
    """Yield the application with its real resources, and the publisher, which readiness asks; connects to nothing yet."""
    async with AsyncExitStack() as stack:
        engine = engines.create(configured, application="ingress", pool_size=DATABASE_CONNECTIONS_MAX)
        stack.push_async_callback(engine.dispose)
        stripe = StripeApi(configured)
        stack.push_async_callback(stripe.close)
        publisher = Publisher(configured, topics.STRIPE_EVENTS.named(configured.topic_prefix))
        await stack.enter_async_context(publisher.reaching())
        yield build(configured, Resources(engine, stripe, publisher, connections)), publisher


def build(configured: IngressSettings, held: Resources) -> web.Application:
    """Return the application with all its routes and middlewares."""
    origins = frozenset(configured.checkout_allowed_origins)
    topic = topics.STRIPE_EVENTS.named(configured.topic_prefix)
    webhook = WebhookHandler(configured, configured, held.publisher, topic=topic)
    checkouts = Checkout(held.engine, held.stripe, configured)
    checkout = CheckoutHandler(checkouts, held.engine, configured, origins)
    payment = PaymentHandler(held.engine, configured)

    cors = http_rules.cors(origins, {CHECKOUT, PAYMENT_SHOWN})
    app = web.Application(middlewares=[held.connections.follow, cors, http_rules.no_internals])
    app.on_response_prepare.append(http_servers.hide_software)
    app.add_routes(
        [
            web.post(WEBHOOK_PATH, webhook.handle),
            web.post(CHECKOUT, checkout.handle),
            web.options(CHECKOUT, http_rules.preflight("POST", origins)),
            web.get(PAYMENT, payment.handle, allow_head=False),
            web.options(PAYMENT, http_rules.preflight("GET", origins)),
            web.get("/openapi.json", pages.openapi),
            web.get("/docs", pages.docs),
        ]
    )
    return app
