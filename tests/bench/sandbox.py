"""How fast the Stripe sandbox is: payments through its API alone, and its start.

Enters: the port of a webhook endpoint that takes everything. Leaves: payments a second, and seconds from the spawn to
the first answer. A payment is two calls: a session, and its confirmation with a test card.
"""

import asyncio
import sys
import time

import aiohttp

from tests.journey.pipeline import ROOT, WEBHOOK_SECRET
from tests.support.waiting import until

PORT = 29_003
URL = f"http://127.0.0.1:{PORT}"
CUSTOMERS = 8  # at once
SESSION = {
    "mode": "payment",
    "success_url": "https://app.culturebridge.example/paid",
    "line_items[0][price_data][currency]": "usd",
    "line_items[0][price_data][unit_amount]": "7500",
    "line_items[0][price_data][product_data][name]": "Coaching session",
    "line_items[0][quantity]": "1",
}


async def payments_per_second_and_start_seconds(webhook_port, *, seconds):
    """Start a sandbox and let customers pay for `seconds`; every webhook of theirs is delivered, or TimeoutError is raised."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.dev.stripe", "--port", str(PORT), "--secret", WEBHOOK_SECRET),
        *("--webhook", f"http://127.0.0.1:{webhook_port}/payment/webhook"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    headers = {"Authorization": "Bearer sk_test_bench"}
    try:
        async with aiohttp.ClientSession(URL, headers=headers, raise_for_status=True) as http:
            await until(lambda: _answers(http), "the sandbox answers", deadline_seconds=10)
            start_seconds = time.perf_counter() - began
            began = time.perf_counter()
            paid = sum(await asyncio.gather(*(_customer(http, began + seconds) for _ in range(CUSTOMERS))))
            rate = paid / (time.perf_counter() - began)
            await until(lambda: _owes_nothing(http), "every webhook is delivered", deadline_seconds=60)
            return rate, start_seconds
    finally:
        process.kill()
        await process.wait()


async def _customer(http, until_moment):
    paid = 0
    while time.perf_counter() < until_moment:
        async with http.post("/v1/checkout/sessions", data=SESSION) as answer:
            session = (await answer.json())["id"]
        async with http.post(f"/v1/payment_pages/{session}/confirm", data={"payment_method": "pm_card_visa"}):
            paid += 1
    return paid


async def _answers(http):
    try:
        async with http.get("/_sandbox/health"):
            return True
    except aiohttp.ClientConnectionError:
        return False


async def _owes_nothing(http):
    async with http.get("/_sandbox/deliveries/pending") as answer:
        return await answer.json() == []
