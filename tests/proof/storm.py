"""Several payments and bookings consumers over the same payments at once, with copies, disorder and deaths before publishing.

Every event is taken by one to all of the consumers, in random batches, as a group that rebalances without end would; a
consumer may die between its commit and its publishing, and its batch is then another's. What they publish goes, shuffled and
repeated, to bookings consumers that run at the same time. `run` raises AssertionError, or whatever a batch raised: a
deadlock first of all.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from consumers.bookings.handlers import Bookings
from consumers.payments.handlers import Payments
from shared.db import engine as engines
from shared.db.engine import rows
from shared.errors import KafkaAway
from shared.kafka.batch import Batches
from shared.kafka.records import Incoming
from shared.messages import payment_states
from tests.support.builders import Sale, insert_sales, record, stripe_event

PAYMENTS_CONSUMERS = 3
BOOKINGS_CONSUMERS = 2
SALES_A_ROUND = 30
BATCH_RECORDS_MAX = 24
DEATHS = 0.15  # the share of batches that are committed and not published
LINES = """
select event_id, payment_id::text, state_after from payment_ledger
where payment_id = any($1::uuid[]) and decision in ('applied', 'unchanged') order by id
"""
ENDS = """
select p.id::text, p.status::text, p.amount_refunded_minor, p.version, b.status::text, k.version, k.paid, k.cancel_due
from payments p join bookings b on b.id = p.booking_id left join booking_payments k on k.payment_id = p.id
where p.id = any($1::uuid[])
"""


@dataclass
class Report:
    """What a storm went through; nothing in it is a failure, since a failure raises."""

    rounds: int = 0
    payments: int = 0
    events: int = 0
    deliveries: int = 0
    batches: int = 0
    deaths: int = 0
    messages: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Fate:
    """One sale's life, and how it must end, written by hand: status, refunded amount, booking."""

    sale: Sale
    events: tuple
    status: str
    refunded_minor: int
    booking: str


def fate(rng):
    """Draw a life. Its ends follow from what its events mean, not from our code."""
    sale = Sale()
    declined = tuple(sale.declined() for _ in range(rng.randint(0, 2)))
    charge = f"ch_3{sale.tag}00000000"
    paid = (*declined, sale.succeeded(latest_charge=charge), sale.completed())
    disputed = (sale.dispute(), sale.dispute("lost")) if rng.random() < 0.3 else ()
    parts = [
        sale.refund(1000, status, f"re_1{sale.tag}", **by)
        for status, by in (("pending", {}), ("succeeded", {"payment_intent": None, "charge": charge}))
    ]
    lives = {
        "declined": Fate(sale, (sale.declined(),), "failed", 0, "pending"),
        "expired": Fate(sale, (*declined, sale.expired()), "failed", 0, "pending"),
        "paid": Fate(sale, (*paid, *disputed), "succeeded", 0, "confirmed"),
        "partly refunded": Fate(sale, (*paid, *parts, sale.refunded(1000), *disputed), "succeeded", 1000, "confirmed"),
        "refunded": Fate(sale, (*paid, *parts, sale.refunded(1000), sale.refunded()), "refunded", 7500, "cancelled"),
        "refund failed": Fate(
            sale,
            (*paid, sale.refund(2000), sale.refunded(2000), sale.refund(2000, "failed")),
            "succeeded",
            0,
            "confirmed",
        ),
    }
    return lives[rng.choice(sorted(lives))]


@dataclass
class Stream:
    """What payments consumers published: all of it, and what bookings consumers have not taken yet."""

    told: list = field(default_factory=list)
    waiting: list = field(default_factory=list)


class Mortal:
    """A producer whose process sometimes dies before it publishes; then nothing of the batch was told."""

    def __init__(self, stream, rng):
        self._stream, self._rng = stream, rng

    async def publish(self, records, *, deadline_seconds=5.0):
        refused = [dict(r.headers)["x-error"] for r in records if r.topic == "dlt"]
        assert not refused, refused
        if self._rng.random() < DEATHS:
            raise KafkaAway("died before it published")
        self._stream.told += [r.value for r in records]
        self._stream.waiting += records


class Silent:
    """A producer for consumers whose messages nobody reads here."""

    async def publish(self, records, *, deadline_seconds=5.0):
        assert not [r for r in records if r.topic == "dlt"]


async def run(database, *, seconds, seed=20_261_124, told=None):
    """Storm until `seconds` are over; return a Report. `told(report)` is called after every round."""
    rng, report, began = random.Random(seed), Report(), time.monotonic()
    made = [engines.create(database, application=f"storm-{n}") for n in range(PAYMENTS_CONSUMERS + BOOKINGS_CONSUMERS)]
    try:
        while time.monotonic() - began < seconds:
            await _round(made, rng, report)
            report.rounds += 1
            report.seconds = time.monotonic() - began
            if told is not None:
                told(report)
        async with made[0].begin() as tx:
            [(deadlocks,)] = await rows(tx, "select deadlocks from pg_stat_database where datname = current_database()")
        assert deadlocks == 0, f"{deadlocks} deadlocks"
    finally:
        for engine in made:
            await engine.dispose()
    return report


async def _round(made, rng, report):
    fates = [fate(rng) for _ in range(SALES_A_ROUND)]
    async with made[0].begin() as tx:
        await insert_sales(tx, *(f.sale for f in fates))
    records = [record(event) for f in fates for event in f.events]
    records += [record(stripe_event("customer.created", {"id": "cus_1", "object": "customer"})) for _ in range(5)]
    stream = Stream()
    queues = _deal(records, rng, report)
    orphans = []
    payments = [
        _consume(_payments(engine, stream, rng), queue, orphans, report) for engine, queue in zip(made, queues, strict=False)
    ]
    working = asyncio.gather(*payments)
    readers = [_follow(_bookings(engine), stream, working, rng, report) for engine in made[PAYMENTS_CONSUMERS:]]
    await asyncio.gather(working, *readers)
    report.payments += len(fates)
    report.events += len(records)
    report.messages += len(stream.told)
    await _judge(made[0], fates, stream)


def _payments(engine, stream, rng):
    producer = Mortal(stream, rng)
    return Batches(Payments(), engine=engine, producer=producer, group="payments", target="payments.events", refusals="dlt")


def _bookings(engine):
    return Batches(Bookings(), engine=engine, producer=Silent(), group="bookings", target="bookings.events", refusals="dlt")


def _deal(records, rng, report):
    """Return each payments consumer's batches: everybody's copies, in everybody's own order."""
    hands = [[] for _ in range(PAYMENTS_CONSUMERS)]
    for one in records:
        for hand in rng.sample(hands, rng.choice((1, 1, 2, PAYMENTS_CONSUMERS))):
            hand.append(one)
    for hand in hands:
        rng.shuffle(hand)
        report.deliveries += len(hand)
    return [_cut(hand, rng) for hand in hands]


def _cut(hand, rng):
    batches, left = [], list(hand)
    while left:
        size = rng.randint(1, BATCH_RECORDS_MAX)
        batches.append(left[:size])
        left = left[size:]
    return batches


async def _consume(story, queue, orphans, report):
    """Take one's own batches, and those of the dead: whoever has their partitions now fetches them anew."""
    while queue or orphans:
        batch = queue.pop() if queue else orphans.pop()
        report.batches += 1
        try:
            await story.handle(batch)
        except KafkaAway:
            report.deaths += 1
            orphans.append(batch)


async def _follow(story, stream, working, rng, report):
    while not working.done() or stream.waiting:
        taken = [stream.waiting.pop(rng.randrange(len(stream.waiting))) for _ in stream.waiting[: rng.randint(1, 20)]]
        if not taken:
            # Nothing published yet: let the others come to it.
            await asyncio.sleep(0.001)
            continue
        again = rng.sample(taken, rng.randint(0, len(taken)))
        report.batches += 1
        await story.handle([Incoming(r.topic, 0, number, r.key, r.value) for number, r in enumerate((*taken, *again))])


async def _judge(engine, fates, stream):
    ids = [f.sale.payment_id for f in fates]
    async with engine.begin() as tx:
        ends = {row[0]: tuple(row[1:]) for row in await rows(tx, ENDS, ids)}
        lines = await rows(tx, LINES, ids)
        waiting = await rows(tx, "select count(*) from waiting_events")
    assert waiting == [(0,)]
    assert Counter(event_id for event_id, _, _ in lines) == Counter(e["id"] for f in fates for e in f.events)
    states = defaultdict(dict)
    for _, payment_id, after in lines:
        assert states[payment_id].setdefault(after["version"], after) == after, "a version is one state"
        assert after["version"] == max(states[payment_id]), "versions only rise"
    copies = defaultdict(set)
    for value in stream.told:
        event = payment_states.decode(value)
        copies[str(event.data.payment_id), event.data.version].add(value)
    for f in fates:
        payment_id = f.sale.payment_id
        status, refunded_minor, version, booking, *followed = ends[payment_id]
        assert (status, refunded_minor, booking) == (f.status, f.refunded_minor, f.booking)
        assert sorted(v for p, v in copies if p == payment_id) == list(range(1, version + 1))
        for number in range(1, version + 1):
            [value] = copies[payment_id, number]
            data = payment_states.decode(value).data
            assert states[payment_id][number].items() <= {name: getattr(data, name) for name in data.__struct_fields__}.items()
        assert followed == [version, data.paid, data.cancel_due], "the bookings consumer knows the newest version"
