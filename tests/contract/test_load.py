"""The generators of load against a server that keeps its own ledger: what they tell is what happened there."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

from aiohttp import web

from tests.journey.pipeline import ROOT
from tests.load import webhooks
from tests.load.seen import Load, Seen
from tests.support.builders import Sale, bytes_of

RATE, SECONDS, STALL_SECONDS = 100, 2.0, 0.5


@asynccontextmanager
async def ledger(*, stall_at=None):
    """A server's port and the ids that it answered; with the request of number `stall_at` it stalls all for half a second."""
    seen, going_on = [], asyncio.Event()
    going_on.set()

    async def answer(request):
        seen.append(json.loads(await request.read())["id"])
        if len(seen) == stall_at:
            going_on.clear()
            asyncio.get_running_loop().call_later(STALL_SECONDS, going_on.set)
        await going_on.wait()
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/payment/webhook", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], seen
    await runner.cleanup()


def events(count):
    return [(event["id"], bytes_of(event)) for event in (Sale().succeeded() for _ in range(count))]


async def test_the_closed_model_sends_each_webhook_once_and_counts_what_was_answered(tmp_path):
    """A rate is read from it: one that counted what nobody got would flatter."""
    made = events(300)
    webhooks.lay(tmp_path / "laid", made)
    async with ledger() as (port, seen):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.load.closed", str(port), "16", str(tmp_path / "laid")),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        told = json.loads((await process.communicate())[0])
    assert sorted(seen) == sorted(event_id for event_id, _ in made)
    assert (told["answered"], told["statuses"]) == (300, {"200": 300})


async def test_no_stall_hides_behind_the_open_model(tmp_path):
    """Whoever was due during a stall waited for its end: a generator that waits itself would have seen one slow answer."""
    made = events(int(RATE * SECONDS))
    webhooks.lay(tmp_path / "laid", made)
    async with ledger(stall_at=50) as (port, seen):
        told = await (await Load(tmp_path, port, RATE, SECONDS, webhooks=tmp_path / "laid").start()).seen()
    assert told.statuses == {200: len(made)}
    assert sorted(told.ids) == sorted(seen) == sorted(event_id for event_id, _ in made)
    waited = [latency for latency in told.latency if latency > STALL_SECONDS / 2]
    assert len(waited) >= RATE * STALL_SECONDS / 2 * 0.8


def test_the_longest_time_without_an_answer_is_found_between_two_moments():
    """A kill is judged by what came after it; what was refused meanwhile is no answer."""
    seen = Seen(0.0, due=[0, 1, 2, 9, 10], latency=[0.5] * 5, status=[200, 200, 503, 200, 200])

    assert seen.gap_seconds_max() == 8
    assert seen.gap_seconds_max(9, 11) == 1
