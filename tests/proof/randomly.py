"""Lives drawn at random against the oracle: disorder, copies, forgeries, losses and what comes again after them.

In this process two consumers of each kind meet everything out of order, versions of a payment swapped on their way to the
bookings, and publishing that fails after a commit. Through Kafka the processes themselves take the same kind of lives.
"""

import asyncio
import random

from tests.proof import lives, seeding
from tests.proof.consumers import BOOKINGS_EVENTS, PAYMENTS_EVENTS, REFUSED, RIVALS, as_consumed, cut, rivals
from tests.proof.ends import Setting, differences
from tests.proof.result import Proved, silent
from tests.support.builders import record

FORGED, DISORDER, COPIES, LOST, LATE, DIES = 0.05, 0.5, 0.15, 0.02, 0.1, 0.05
BATCH_MAX = 150


async def against_the_oracle(database, engine, *, seed, payments, progress=silent):
    """Prove it for so many payments with two consumers of each kind in this process."""
    drawn = random.Random(seed)
    manifest = lives.draw(drawn, payments_min=payments, forged=FORGED)
    coming = lives.deliver(manifest, drawn, disorder=DISORDER, copies=COPIES, lost=LOST, late=LATE)
    await seeding.people(engine)
    await seeding.bookings(engine, manifest.bookings)
    await seeding.payments(engine, manifest.payments)
    records = [record(body) for body in coming.bodies]
    async with rivals(database, drawn, dies=DIES) as pair:
        await _share(pair.payments, records, drawn, lambda done: progress(done, 2 * len(records)))
        changes = _astray(as_consumed(pair.published.sent(PAYMENTS_EVENTS)), drawn)
        await _share(pair.bookings, changes, drawn, lambda done: progress(len(records) + done, 2 * len(records)))
    published = {topic: [r.value for r in pair.published.sent(topic)] for topic in (PAYMENTS_EVENTS, BOOKINGS_EVENTS)}
    wrong = await differences(
        engine,
        Setting(manifest.payments, manifest.bookings, coming.arrived),
        payments_events=published[PAYMENTS_EVENTS],
        bookings_events=published[BOOKINGS_EVENTS],
    )
    assert not wrong, f"{len(wrong)} differences, first {wrong[:3]}"
    refused = {r.value for r in pair.published.sent(REFUSED)}
    assert set(manifest.junk) <= refused, f"dropped in silence: {set(manifest.junk) - refused}"
    return Proved(
        title="Drawn lives against the oracle, in one process",
        how=f"Two consumers of each kind: {DISORDER:.0%} of the events at a random place, {COPIES:.0%} copies, {FORGED:.0%} "
        f"forged, {LOST:.0%} lost for good, {LATE:.0%} after all others; {DIES:.0%} of the batches lose Kafka after their "
        "commit and are repeated; versions of a payment reach the bookings consumer in any order. No difference in any "
        "payment, booking, refunded amount, newest message, refusal, waiting event or conflict.",
        cases=counted(manifest, coming) | {"batches published twice": pair.published.deaths},
        seed=seed,
    )


def counted(manifest, coming):
    """What was drawn and delivered, for the page."""
    return {
        "payments": len(manifest.payments),
        "bookings": len(manifest.bookings),
        "events": len(coming.arrived),
        "deliveries": len(coming.bodies),
        "copies": coming.copies,
        "lost for good": coming.lost,
        "no events at all": coming.junk,
    }


async def _share(consumer, records, drawn, progress):
    """Two consumers take turns by whoever is free, as with partitions that move between them."""
    batches, done = cut(records, drawn, BATCH_MAX), 0

    async def take(rival):
        nonlocal done
        for batch in batches:
            await consumer(rival, batch)
            done += len(batch)
            progress(done)

    await asyncio.gather(*(take(rival) for rival in range(RIVALS)))


def _astray(records, drawn):
    """Messages in no order, some of them twice: more than any broker does to them."""
    records = records + drawn.sample(records, len(records) // 10)
    drawn.shuffle(records)
    return records
