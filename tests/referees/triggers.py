"""Stripe's own command line pays at the sandbox: `stripe trigger` for each event that we handle and it knows.

Its own success proves little, since it is content with a 404: so the named event is looked for in `/v1/events`, after those
that must come before it.
"""

import asyncio
import os
import tempfile
from pathlib import Path

import aiohttp

from deploy.dev.stripe import open_sandbox
from tests.referees import fetching, watch
from tests.support.waiting import until

KEY = "sk_test_of_the_referees"
NOBODY = "http://127.0.0.1:9/"
ENDED_WITHIN_SECONDS = 30
TOLD_WITHIN_SECONDS = 10

CREATED = "payment_intent.created"
ON_ITS_WAY = (CREATED, "charge.pending", "checkout.session.completed", "payment_intent.processing")
ELSEWHERE = ("product.", "price.", "charge.updated")  # the catalogue, and fees, which are known a moment later
# The event that is asked for -> everything that is told of the payment up to it, in order.
SCENARIOS = {
    "checkout.session.completed": (CREATED, "charge.succeeded", "payment_intent.succeeded"),
    "checkout.session.async_payment_succeeded": (*ON_ITS_WAY, "charge.succeeded", "payment_intent.succeeded"),
    "checkout.session.async_payment_failed": (*ON_ITS_WAY, "charge.failed", "payment_intent.payment_failed"),
    "checkout.session.expired": (),
    "charge.refunded": (CREATED, "charge.succeeded", "payment_intent.succeeded", "refund.created"),
    "payment_intent.payment_failed": (CREATED, "charge.failed"),
}


def complaints():
    """Return what went otherwise than at Stripe."""
    stripe = fetching.command_line()
    return asyncio.run(_all(stripe))


async def _all(stripe):
    with watch.seeing() as seen:
        played = await asyncio.gather(*(_played(stripe, kind, before) for kind, before in SCENARIOS.items()))
    return [complaint for complaint in played if complaint] + list(dict.fromkeys(map(str, seen.complaints)))


async def _played(stripe, kind, before):
    """Play one scenario at a sandbox of its own; return a complaint, or None."""
    with tempfile.TemporaryDirectory(prefix="referees-") as folder:
        async with open_sandbox(webhook_url=NOBODY, webhook_secret="whsec_x", state_folder=Path(folder) / "state") as sandbox:
            url = sandbox.settings.public_url
            status, said = await _triggered(stripe, kind, url, folder)
            if status:
                return f"stripe trigger {kind} ended with {status}: {said}"
            told = await _told(url, kind)
    return None if told == [*before, kind] else f"{kind}: told were {told}, not {[*before, kind]}"


async def _triggered(stripe, kind, url, home):
    # A home of its own: the command line reads and writes its configuration there, and would ask the internet for news.
    environment = {"HOME": home, "PATH": os.environ["PATH"], "STRIPE_CLI_TELEMETRY_OPTOUT": "1", "STRIPE_NO_AUTO_UPDATE": "1"}
    command = (stripe, "trigger", kind, "--api-base", url, "--api-key", KEY)
    pipe = asyncio.subprocess.PIPE
    ran = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment)
    async with asyncio.timeout(ENDED_WITHIN_SECONDS):
        said, _ = await ran.communicate()
    return ran.returncode, said.decode()[-500:]


async def _told(url, kind):
    """Return what `/v1/events` tells of the payment up to this kind, oldest first, once it is there."""
    types = []

    async def is_told():
        async with http.get(f"{url}/v1/events", params={"limit": 100}) as answer:
            types[:] = [event["type"] for event in (await answer.json())["data"]][::-1]
        return kind in types

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http:
        await until(is_told, f"{kind} is told", deadline_seconds=TOLD_WITHIN_SECONDS)
    return [each for each in types[: types.index(kind) + 1] if not each.startswith(ELSEWHERE)]
