"""The sandbox as a process of its own: where it finds the secret that signs, which `ps` need not show."""

import asyncio
import contextlib
import os
import sys

import aiohttp
import pytest
import stripe

from deploy.dev.state import PROJECT
from deploy.dev.stripe import __main__ as command_line
from tests.support.waiting import until

OLD, NEW = "whsec_of_yesterday", "whsec_of_today"


@contextlib.asynccontextmanager
async def started(webhook, **variables):
    """The address of a sandbox that was started with these variables."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.dev.stripe", "--port", "0", "--webhook", webhook.url),
        cwd=PROJECT,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield (await process.stdout.readline()).decode().split()[4].rstrip(",")
    finally:
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.parametrize("filed", [False, True])
async def test_the_secret_stands_in_the_environment_or_in_a_file(tmp_path, webhook, filed):
    """Several, as during a roll, sign all of them."""
    (tmp_path / "secret").write_text(f"{OLD},{NEW}\n")
    variables = (
        {"STRIPE_WEBHOOK_SECRET_FILE": str(tmp_path / "secret")} if filed else {"STRIPE_WEBHOOK_SECRET": f"{OLD}, {NEW}"}
    )
    async with started(webhook, **variables) as url, aiohttp.ClientSession(raise_for_status=True) as http:
        intent = {"amount": "5000", "currency": "usd"}
        await http.post(f"{url}/v1/payment_intents", data=intent, headers={"Authorization": "Bearer sk_test_x"})
        await until(lambda: webhook.bodies, "the event arrives")

    for secret in (OLD, NEW):
        assert stripe.Webhook.construct_event(webhook.bodies[0], webhook.headers[0]["Stripe-Signature"], secret)


@pytest.mark.parametrize("content", [None, " \n"])
def test_a_secret_that_is_not_there_ends_the_start(monkeypatch, capsys, tmp_path, content):
    """In a line, with status 2."""
    named = tmp_path / "secret"
    if content is not None:
        named.write_text(content)
    monkeypatch.setattr(sys, "argv", ["stripe", "--webhook", "http://127.0.0.1:9/"])
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET_FILE", str(named))

    with pytest.raises(SystemExit) as ended:
        command_line.main()

    assert ended.value.code == 2
    assert str(named) in capsys.readouterr().err
