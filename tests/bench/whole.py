"""Rows 8 to 11: the whole walk, all four processes on the machine's cores with Kafka, PostgreSQL and a mail server of ours.

Latencies are those of an open load at a fixed rate, from the moment when Stripe's first webhook of a payment was due: to the
moment when `booking.confirmed` was on its way to Kafka, after its commit, and to the later of the two letters' records. They
count from the fourth second on: whoever has just started connects, prepares and compiles meanwhile (row 13 is of that). What
is sustained is counted from the first webhook until nothing is left to do anywhere.
"""

import json
import time

from consumers.email import kinds, store
from shared.db.engine import rows
from shared.topics import BOOKINGS_EVENTS
from tests.bench.consumers import SINK_PORT
from tests.bench.ground import beside, ground, load, only_200, sales, started
from tests.bench.payloads import body_of
from tests.journey.pipeline import PROCESSES
from tests.load import webhooks
from tests.load.seen import Load
from tests.support.builders import confirmed
from tests.support.members import everything
from tests.support.waiting import until

PAYMENTS_PER_SECOND = 100
WARMING_SECONDS = 3.0
LETTERS_FOR_ONE_IN = 10
PAYMENTS_WITH_LETTERS_PER_EVENT = 0.1  # a letter costs as much as a dozen events
MS_PER_SECOND = 1000
BOTH_SENT = """
select booking_id::text, extract(epoch from max(sent_at))::float8 from letters where state = 'sent'
group by booking_id having count(*) = 2
"""
ALL_SENT = "update letters set state = 'sent'"
ENDED = """
select (select count(*) from bookings where status = 'confirmed'),
       (select count(*) from inbox where consumer = 'payments'),
       (select count(*) from letters where state = 'sent')
"""


async def measured(folder, seconds, events, needs):
    """Return the figures of rows 8 to 11."""
    folder.mkdir()
    waited = await _latencies(folder / "latencies", seconds, needs)
    with_few = await _sustained(folder / "few", events // 2, needs, letters_for_one_in=LETTERS_FOR_ONE_IN)
    with_all = await _sustained(folder / "all", int(events * PAYMENTS_WITH_LETTERS_PER_EVENT), needs, letters_for_one_in=1)
    return waited | {"10": with_few * 2, "11": with_all}


def _both(sale):
    return [(event["id"], body_of(event)) for event in (sale.succeeded(), sale.completed())]


async def _latencies(folder, seconds, needs):
    async with beside("tests.bench.sink", SINK_PORT), ground(folder) as (pipeline, engine, kafka):
        pipeline.settings["SMTP_PORT"] = str(SINK_PORT)
        sold = await sales(engine, int(PAYMENTS_PER_SECOND * (WARMING_SECONDS + seconds)))
        laid, first_of = folder / "webhooks.jsonl", {}
        pairs = [(sale, _both(sale)) for sale in sold]
        for sale, pair in pairs:
            first_of[pair[0][0]] = sale.booking_id
        webhooks.lay(laid, (webhook for _, pair in pairs for webhook in pair))
        async with started(pipeline, *PROCESSES, needs=needs):
            under_load = await Load(
                folder, pipeline.port, PAYMENTS_PER_SECOND * 2, WARMING_SECONDS + seconds, webhooks=laid
            ).start()
            seen = await under_load.seen()
            only_200(seen.statuses)
            await until(
                lambda: has_ended(engine, len(sold), 2 * len(sold), 2 * len(sold)), "every letter is sent", deadline_seconds=60
            )
        counted = [(i, due) for i, due in zip(seen.ids, seen.due, strict=True) if i in first_of and due >= WARMING_SECONDS]
        due_at = {first_of[i]: seen.began + due for i, due in counted}
        told = {_booking_of(record): record.timestamp_ms for record in await everything(kafka, BOOKINGS_EVENTS)}
        taken = [told[booking_id] - due * MS_PER_SECOND for booking_id, due in due_at.items()]
        async with engine.begin() as tx:
            both = dict(await rows(tx, BOTH_SENT))
        sent = [(both[booking_id] - due) * MS_PER_SECOND for booking_id, due in due_at.items()]
        return {
            "8a": _share(taken, 0.5),
            "8b": _share(taken, 0.99),
            "9": _share(sent, 0.99) / MS_PER_SECOND,
        }


async def _sustained(folder, payments, needs, *, letters_for_one_in):
    """Payments a second, two webhooks each, as fast as the door takes them, until the last letter is recorded."""
    async with beside("tests.bench.sink", SINK_PORT), ground(folder) as (pipeline, engine, _):
        pipeline.settings["SMTP_PORT"] = str(SINK_PORT)
        sold = await sales(engine, payments)
        await sent_before(engine, [sale for number, sale in enumerate(sold) if number % letters_for_one_in])
        async with started(pipeline, *PROCESSES, needs=needs):
            told = await load(folder, [pipeline.port], [webhook for sale in sold for webhook in _both(sale)])
            await until(
                lambda: has_ended(engine, payments, 2 * payments, 2 * payments), "nothing is left to do", deadline_seconds=300
            )
            return payments / (time.time() - told["began"])


async def sent_before(engine, sold):
    """Let letters stand as sent before anybody pays: the email consumer reads of them, looks, and lets them be."""
    due = [letter for sale in sold for letter in kinds.of_booking(confirmed(sale), sender_domain="bench.example").due]
    async with engine.begin() as tx:
        await store.enter(tx, due)
        await rows(tx, ALL_SENT)


async def has_ended(engine, bookings, events, letters):
    """Whether so many bookings are confirmed, events taken, and letters sent."""
    async with engine.begin() as tx:
        return tuple((await rows(tx, ENDED))[0]) == (bookings, events, letters)


def _booking_of(record):
    return json.loads(record.value)["data"]["booking_id"]


def _share(figures, share):
    return sorted(figures)[min(int(len(figures) * share), len(figures) - 1)]
