"""`cb-ops stripe check` through the real stripe library against the sandbox."""

import asyncio
import json
import socket

import pytest
from typer.testing import CliRunner

from deploy.ops.cli import app
from shared.stripe_events import API_VERSION, Kind
from tests.support.sandboxes import Webhook, opened


@pytest.fixture
async def world(tmp_path):
    """A sandbox whose endpoint would lead to an ingress; nobody is told anything here."""
    async with opened(tmp_path, Webhook(url="http://127.0.0.1:9/payment/webhook")) as world:
        yield world


@pytest.fixture
def check(world):
    """Run `cb-ops stripe check` on this sandbox."""

    async def run(*arguments, **changes):
        environment = {
            "STRIPE_SECRET_KEY": "sk_test_x",
            "STRIPE_API_BASE": world.url,
            "STRIPE_ACCOUNT_ID": "",
            "STRIPE_WEBHOOK_SECRET": "",  # the door's alone
        }
        return await asyncio.to_thread(CliRunner().invoke, app, ("stripe", "check", *arguments), env=environment | changes)

    return run


async def ours(world):
    [endpoint] = (await world.client.v1.webhook_endpoints.list_async()).data
    return endpoint


async def test_an_endpoint_that_sends_what_we_handle_is_well(check, world):
    """Exactly our kinds: nothing is found, and the account's own id is right."""
    endpoint = await ours(world)
    account = await world.client.v1.accounts.retrieve_current_async()
    await world.client.v1.webhook_endpoints.update_async(endpoint.id, {"enabled_events": list(Kind)})

    result = await check(STRIPE_ACCOUNT_ID=account.id)

    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            f"account {account.id}, test mode; our API version is {API_VERSION}",
            f"{endpoint.id} is enabled, {len(Kind)} kinds of events, {API_VERSION}: {endpoint.url}",
            "Stripe sends us everything that we handle",
        ],
    )


async def test_what_is_missing_and_extra_is_named_and_fails(check, world):
    """Somebody chose events by hand, and forgot refunds."""
    kinds = [kind for kind in Kind if not kind.startswith("refund.")]
    await world.client.v1.webhook_endpoints.update_async((await ours(world)).id, {"enabled_events": [*kinds, "plan.created"]})

    result = await check()

    assert result.exit_code == 1
    assert "WRONG  no enabled endpoint sends us refund.created, refund.updated, refund.failed" in result.stdout
    assert "also sends plan.created, which decide nothing" in result.stdout
    assert "Stripe sends us everything that we handle" not in result.stdout


async def test_a_disabled_endpoint_fails(check, world):
    """Stripe disables an endpoint after days of failures: this is how to see it from here."""
    await world.client.v1.webhook_endpoints.update_async((await ours(world)).id, {"disabled": True})

    result = await check("--json")

    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [finding["what"] for finding in answer["findings"] if finding["wrong"]] == ["events_missing", "disabled"]
    assert (answer["livemode"], answer["endpoints"][0]["enabled"]) == (False, False)


async def test_a_key_of_another_account_fails(check):
    """The pinned account is not the one whose key we hold."""
    result = await check(STRIPE_ACCOUNT_ID="acct_other")

    assert result.exit_code == 1
    assert "WRONG  STRIPE_ACCOUNT_ID is acct_other, but the key belongs to acct_1" in result.stdout


async def test_a_key_that_stripe_refuses_is_one_line(check, world):
    """Not a check that found nothing, but one that could not be made; the key itself is not shown."""
    result = await check(STRIPE_SECRET_KEY="sk_live_geheim")

    assert result.exit_code == 1
    assert result.stderr == f"Stripe at {world.url}: AuthenticationError\n"
    assert "geheim" not in result.output


async def test_a_stripe_that_is_away_is_one_line(check):
    """Where it was looked for, and why."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{held.getsockname()[1]}"
        result = await check(STRIPE_API_BASE=base)

    assert (result.exit_code, result.stderr) == (1, f"Stripe at {base}: APIConnectionError\n")
