"""200 payments in random order, every event one to three times, while each process is killed with -9 again and again."""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass

from shared.db.engine import rows
from shared.topics import BOOKINGS_EVENTS, PAYMENTS_EVENTS
from tests.journey.pipeline import PROCESSES
from tests.proof.processes import kill_again_and_again, send
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.members import committed, everything
from tests.support.waiting import until

PAYMENTS = 200
KILLS_EACH = 5
LETTERS_IN_FLIGHT_MAX = 10
EVENTS_PER_SECOND_WHILE_KILLING = 25


@dataclass(frozen=True)
class Fate:
    """What happens to one sale at Stripe, and, as the fold of it, how payment and booking must end."""

    sale: Sale
    events: tuple
    payment: str
    booking: str


def fate(rng):
    """Draw one life; the ends are written by hand, from what the events mean."""
    sale = Sale()
    declined = (sale.declined(),) if rng.random() < 0.3 else ()
    paid = (sale.succeeded(), sale.completed())
    kind = rng.choice(["paid", "paid", "partly refunded", "refunded", "declined"])
    if kind == "paid":
        return Fate(sale, (*declined, *paid), "succeeded", "confirmed")
    if kind == "partly refunded":
        return Fate(sale, (*declined, *paid, sale.refunded(2500)), "succeeded", "confirmed")
    if kind == "refunded":
        return Fate(sale, (*declined, *paid, sale.refunded(2500), sale.refunded()), "refunded", "cancelled")
    return Fate(sale, (sale.declined(),), "failed", "pending")


async def test_no_kill_and_no_disorder_changes_what_a_payment_ends_as(pipeline, engine, kafka):
    """Every payment and booking ends as the fold of its events says, and every letter that is due arrives once."""
    rng = random.Random(20_261_124)
    fates = [fate(rng) for _ in range(PAYMENTS)]
    async with engine.begin() as tx:
        await insert_sales(tx, *(f.sale for f in fates))
    bodies = [bytes_of(event) for f in fates for event in f.events for _ in range(rng.randint(1, 3))]
    rng.shuffle(bodies)
    await pipeline.start(*PROCESSES)
    await pipeline.until_ready(*PROCESSES)

    killing = asyncio.gather(*(kill_again_and_again(pipeline, name, KILLS_EACH, random.Random(name)) for name in PROCESSES))
    await send(pipeline, bodies, until_then=killing, per_second=EVENTS_PER_SECOND_WHILE_KILLING)
    await asyncio.wait_for(killing, 120)
    await until(lambda: settled(engine, fates), "every payment and booking has ended", deadline_seconds=90, every_seconds=0.5)
    # Of a booking that was confirmed and then cancelled nothing else would tell that its letters are still to come.
    entered = "the email consumer has read whatever it is told"
    await until(lambda: letters_are_entered(kafka), entered, deadline_seconds=90, every_seconds=0.5)
    await until(lambda: settled(engine, fates), "no letter is under way", deadline_seconds=90, every_seconds=0.5)

    assert min(pipeline.kills[name] for name in PROCESSES) >= KILLS_EACH
    await ends_as_its_events_say(engine, fates)
    await every_event_was_applied_once(engine, fates)
    await letters_are_exact(engine, pipeline, fates)


async def states(engine):
    async with engine.begin() as tx:
        found = await rows(
            tx, "select p.id::text, p.status::text, b.status::text from payments p join bookings b on b.id = p.booking_id"
        )
    return {payment_id: (payment, booking) for payment_id, payment, booking in found}


async def settled(engine, fates):
    ends = {f.sale.payment_id: (f.payment, f.booking) for f in fates}
    async with engine.begin() as tx:
        due = await rows(tx, "select count(*) from letters where state not in ('sent', 'suppressed')")
        letters = await rows(tx, "select count(distinct booking_id) from letters where state = 'sent'")
    confirmed = sum(f.booking == "confirmed" for f in fates)
    return await states(engine) == ends and due == [(0,)] and letters[0][0] >= confirmed


async def letters_are_entered(kafka):
    for topic, group in ((BOOKINGS_EVENTS, "email"), (PAYMENTS_EVENTS, "email-payments")):
        if sum((await committed(kafka, topic, group)).values()) < len(await everything(kafka, topic)):
            return False
    return True


async def ends_as_its_events_say(engine, fates):
    assert await states(engine) == {f.sale.payment_id: (f.payment, f.booking) for f in fates}
    async with engine.begin() as tx:
        refunded = await rows(
            tx, "select sum(amount_refunded_minor), sum(amount_minor) from payments where status = 'refunded'"
        )
        waiting = await rows(tx, "select count(*) from waiting_events")
        told = await rows(tx, "select reason from attention")
    assert refunded[0][0] == refunded[0][1]
    assert waiting == [(0,)]
    assert told == []


async def every_event_was_applied_once(engine, fates):
    async with engine.begin() as tx:
        lines = await rows(
            tx, "select event_id, count(*) from payment_ledger where decision in ('applied', 'unchanged') group by 1"
        )
    assert dict(map(tuple, lines)) == {e["id"]: 1 for f in fates for e in f.events}


async def letters_are_exact(engine, pipeline, fates):
    async with engine.begin() as tx:
        ledger = await rows(tx, "select booking_id::text, kind, role, state, message_id, possible_duplicates from letters")
    copies = Counter(letter.message_id for letter in pipeline.mailbox.letters)
    by_booking = defaultdict(dict)
    unrecorded = 0
    for booking_id, kind, role, state, message_id, possible in ledger:
        by_booking[booking_id][kind, role] = (state, copies[message_id])
        if state == "sent":
            assert copies[message_id] <= 1 + possible
        else:
            # Accepted by the mail server, killed before the record; then the booking was cancelled, and it ends suppressed.
            assert copies[message_id] <= 1
            unrecorded += copies[message_id]
    for f in fates:
        told = by_booking[f.sale.booking_id]
        if f.booking == "confirmed":
            confirmations = {role: found for (kind, role), found in told.items() if kind == "confirmation"}
            assert {role: state for role, (state, _) in confirmations.items()} == {"client": "sent", "coach": "sent"}
            assert all(count >= 1 for _, count in confirmations.values())
        elif f.booking == "pending":
            assert told == {}
        else:
            assert {state for state, _ in told.values()} <= {"sent", "suppressed"}
    assert set(copies) <= {message_id for *_, message_id, _ in ledger}
    extra = sum(copies.values()) - len(copies)
    assert extra + unrecorded <= LETTERS_IN_FLIGHT_MAX * pipeline.kills["email"]
