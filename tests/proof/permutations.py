"""Every order of every recorded story, through the real consumers and a real PostgreSQL, a payment for each order.

First each payment is one consumer's: it takes the story in exactly this order, with copies, in batches cut anywhere, while
the other consumer works on other payments. Then both consumers hold every event at once, the one in this order, the other
backwards, as after a rebalance. In the end all rows of a story are the same.
"""

import asyncio
import itertools
import math
import random

from shared.db.engine import rows
from tests import oracle
from tests.proof import seeding
from tests.proof.consumers import BOOKINGS_EVENTS, PAYMENTS_EVENTS, RIVALS, as_consumed, cut, rivals
from tests.proof.ends import Setting, differences
from tests.proof.result import Proved, silent
from tests.proof.stories import STORIES
from tests.support.builders import Sale, record

COPIED = 0.2
DIES = 0.02
BATCH_MAX = 300
# Every column of a payment and of the facts beside it, without its own name, its times, and what may tell of the order.
SAME = """
select count(*), count(distinct md5(replace(concat_ws('|',
    (to_jsonb(p) - '{id,booking_id,created_at,updated_at,version,closed_at,slot_free}'::text[])::text,
    p.closed_at is not null,
    (select string_agg((to_jsonb(r) - 'payment_id')::text, '|' order by r.id) from refunds r where r.payment_id = p.id),
    (select string_agg((to_jsonb(d) - 'payment_id')::text, '|' order by d.id) from disputes d where d.payment_id = p.id),
    (select string_agg((to_jsonb(i) - 'payment_id')::text, '|' order by i.intent_id)
     from payment_intents i where i.payment_id = p.id)
), substr(p.stripe_session_id, 9), '#')))
from payments p where id = any($1::uuid[])
"""
ENDS = """
select distinct p.status::text, p.amount_refunded_minor, b.status::text
from payments p join bookings b on b.id = p.booking_id where p.id = any($1::uuid[])
"""


async def every_order(database, engine, *, seed, sample=None, progress=silent):
    """Prove it for all orders of each story, or for `sample` of them."""
    drawn = random.Random(seed)
    counts = dict.fromkeys(("stories", "payments", "events", "deliveries", "batches published twice"), 0)
    await seeding.people(engine)
    total = sum(_orders(story, sample) for story in STORIES)
    for story in STORIES:
        for stream in (_in_this_order, _by_both_at_once):
            orders = list(_drawn_orders(len(story.told(Sale())), sample, drawn))
            sales = [Sale(client_id=seeding.CLIENT_ID, coach_id=seeding.COACH_ID) for _ in orders]
            told = [story.told(sale) for sale in sales]
            streams = stream(told, orders, drawn)
            await _prove(database, engine, story, sales, told, streams, drawn, counts)
            counts["payments"] += len(sales)
            progress(counts["payments"], total * 2)
        counts["stories"] += 1
    return Proved(
        title="Every order of every story, through PostgreSQL" if sample is None else "Drawn orders of every story",
        how="Each order is a payment of its own. Two consumers process it at once: first each event in its order, then both "
        f"get every event, one of them backwards; batches of 1 to {BATCH_MAX}, {COPIED:.0%} copies inside and across them, "
        "publishing that fails after the commit. All rows of a story are equal by a hash over all columns, the ends are "
        "those written by hand beside the story, versions have no gap, the ledger lists each event once.",
        cases=counts,
        seed=seed,
    )


async def _prove(database, engine, story, sales, told, streams, drawn, counts):
    payments = [oracle.Row(s.payment_id, s.booking_id, s.amount_minor, s.currency, s.session_id) for s in sales]
    bookings = [oracle.Booking(sale.booking_id) for sale in sales]
    async with engine.begin() as tx:
        await rows(tx, "truncate payment_ledger, inbox, waiting_events, attention")
    await seeding.bookings(engine, bookings)
    await seeding.payments(engine, payments)
    async with rivals(database, drawn, dies=DIES) as pair:
        await asyncio.gather(*(_take(pair.payments, n, streams[n], drawn) for n in range(RIVALS)))
        changes = as_consumed(pair.published.sent(PAYMENTS_EVENTS))
        drawn.shuffle(changes)
        await asyncio.gather(*(_take(pair.bookings, n, changes[n::RIVALS], drawn) for n in range(RIVALS)))
    events = [event for one in told for event in one]
    ids = [sale.payment_id for sale in sales]
    async with engine.begin() as tx:
        same = tuple((await rows(tx, SAME, ids))[0])
        ends = [tuple(end) for end in await rows(tx, ENDS, ids)]
    assert same == (len(sales), 1), f"{story.name}: {same[1]} different rows among {same[0]}"
    assert ends == [(story.status, story.refunded_minor, story.booking)], f"{story.name}: {ends}"
    published = {topic: [r.value for r in pair.published.sent(topic)] for topic in (PAYMENTS_EVENTS, BOOKINGS_EVENTS)}
    wrong = await differences(
        engine,
        Setting(payments, bookings, events),
        payments_events=published[PAYMENTS_EVENTS],
        bookings_events=published[BOOKINGS_EVENTS],
    )
    assert not wrong, f"{story.name}: {len(wrong)} differences, first {wrong[:3]}"
    counts["events"] += len(events)
    counts["deliveries"] += sum(len(stream) for stream in streams)
    counts["batches published twice"] += pair.published.deaths


async def _take(consumer, rival, records, drawn):
    for batch in cut(records, drawn, BATCH_MAX):
        await consumer(rival, batch)


def _in_this_order(told, orders, drawn):
    """Each payment belongs to one consumer, and its events come in exactly its order, copies after them."""
    streams = [[] for _ in range(RIVALS)]
    for number, (events, order) in enumerate(zip(told, orders, strict=True)):
        streams[number % RIVALS] += _placed([events[n] for n in order], drawn)
    return [_records(stream) for stream in streams]


def _by_both_at_once(told, orders, drawn):
    """Both consumers hold every event of every payment; the second takes each order backwards."""
    forwards, backwards = [], []
    for events, order in zip(told, orders, strict=True):
        forwards += _placed([events[n] for n in order], drawn)
        backwards += _placed([events[n] for n in reversed(order)], drawn)
    return [_records(forwards), _records(backwards)]


def _placed(events, drawn):
    """Put a sequence at random moments, its order kept; some events come again later."""
    moments = sorted(drawn.random() for _ in events)
    copies = [(drawn.uniform(at, 1), event) for at, event in zip(moments, events, strict=True) if drawn.random() < COPIED]
    return [*zip(moments, events, strict=True), *copies]


def _records(placed):
    return [record(event) for _, event in sorted(placed, key=lambda one: one[0])]


def _orders(story, sample):
    every = math.factorial(len(story.told(Sale())))
    return every if sample is None else min(sample, every)


def _drawn_orders(length, sample, drawn):
    if sample is None or math.factorial(length) <= sample:
        return itertools.permutations(range(length))
    return (tuple(drawn.sample(range(length), length)) for _ in range(sample))
