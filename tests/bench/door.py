"""Rows 1 to 3: the door beside its ceiling, with one process and with two, and how long it lets Stripe wait at half load."""

from tests.bench.ground import beside, ground, load, only_200, started
from tests.bench.payloads import body_of
from tests.load import webhooks
from tests.load.seen import Load
from tests.support.builders import Sale

CEILING_PORT = 29_001
WEBHOOKS = 2_000  # more would not fit into the generator's caches
HALF = 0.5


async def measured(folder, seconds, needs):
    """Return the figures of rows 1 to 3, and for the reader the webhooks a second of ceiling and door."""
    folder.mkdir()
    events = webhooks_to_send()
    ceiling = await _ceiling(folder, events, seconds, processes=1)
    both = await _ceiling(folder, events, seconds, processes=2)
    async with ground(folder / "one") as (pipeline, _, _), started(pipeline, "ingress", needs=needs):
        door = (await load(folder, [pipeline.port], events, seconds=seconds))["per_second"]
        waiting = await _at_half_load(folder, pipeline.port, door * HALF, seconds)
    async with ground(folder / "two") as (pipeline, _, _):
        pipeline.settings["INGRESS_REUSE_PORT"] = "true"
        async with started(pipeline, "ingress", "ingress-2", needs=needs):
            doors = (await load(folder, [pipeline.port], events, seconds=seconds))["per_second"]
    return {"1": door / ceiling, "2": waiting, "3": doors / both}, {"ceiling": ceiling, "door": door}


def webhooks_to_send(count=WEBHOOKS):
    """Return so many events that nobody has seen, as pairs of id and body."""
    return [(event["id"], body_of(event)) for event in (Sale().succeeded() for _ in range(count))]


async def _ceiling(folder, events, seconds, *, processes):
    async with beside("tests.bench.ceiling", *([CEILING_PORT] * processes)):
        return (await load(folder, [CEILING_PORT], events, seconds=seconds))["per_second"]


async def _at_half_load(folder, port, rate, seconds):
    """The 99th percentile of milliseconds from when a webhook was due until its answer, at this rate."""
    laid = folder / "half.jsonl"
    webhooks.lay(laid, webhooks_to_send(int(rate * seconds)))
    seen = await (await Load(folder, port, rate, seconds, webhooks=laid).start()).seen()
    only_200(seen.statuses)
    return seen.latency_ms(0.99)
