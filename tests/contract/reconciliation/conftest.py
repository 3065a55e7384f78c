"""Stripe's sandbox of which nobody hears, the topics of the map, and the command that asks the one and fills the others."""

import asyncio
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from deploy.ops.cli import app
from shared import clock
from shared.kafka import provision
from tests.support.sandboxes import Webhook, opened


@pytest.fixture
async def world(tmp_path):
    """A sandbox that was told to send nothing any more."""
    async with opened(tmp_path / "stripe", Webhook(url="http://127.0.0.1:9/payment/webhook")) as world:
        [endpoint] = (await world.client.v1.webhook_endpoints.list_async()).data
        await world.client.v1.webhook_endpoints.update_async(endpoint.id, {"disabled": True})
        yield world


@pytest.fixture
async def ground(kafka):
    """The topics of the map."""
    await provision.apply(kafka)
    return kafka


@pytest.fixture
def settled(monkeypatch):
    """A quarter of an hour has passed since Stripe made its events: none is under way any more."""
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(minutes=15))


@pytest.fixture
def reconcile(world, database, ground):
    """Run `cb-ops stripe reconcile --json` on these; what is not JSON is an operator's line."""

    async def run(*arguments, **changes):
        environment = {
            "DATABASE_URL": database.database_url.get_secret_value(),
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(ground.kafka_bootstrap_servers),
            "TOPIC_PREFIX": ground.topic_prefix,
            "STRIPE_SECRET_KEY": "sk_test_x",
            "STRIPE_API_BASE": world.url,
            "STRIPE_WEBHOOK_SECRET": "",  # the door's alone
        } | changes
        return await asyncio.to_thread(CliRunner().invoke, app, ("stripe", "reconcile", *arguments), env=environment)

    return run
