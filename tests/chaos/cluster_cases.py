"""Two bad days of the cluster under load: one of each killed with -9 and started again, then everything restarted in turn.

A case sends webhooks of sales that were made beforehand, does its harm meanwhile, sends again what was refused, as Stripe
would, waits until nothing is left to do, and judges all of it from outside: by the topic, by tests/oracle.py, by the mailbox.
How long and within which bounds is its caller's, tests/chaos/cluster.py.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from shared import topics
from shared.db.engine import rows
from tests import oracle
from tests.bench.ground import sales
from tests.bench.payloads import body_of
from tests.bench.whole import LETTERS_FOR_ONE_IN, has_ended, sent_before
from tests.chaos import cases
from tests.chaos.door_cases import in_the_log, leader_of_most
from tests.load import webhooks
from tests.load.seen import Load
from tests.proof.ends import Setting, differences
from tests.proof.processes import GROUPS, until_caught_up
from tests.support.members import everything
from tests.support.waiting import until

SALES_AT_ONCE = 5_000
RESENT_AT_ONCE = 16
FIRST_KILL_SECONDS, BETWEEN_KILLS_SECONDS = 15.0, 32.0
AWAY_SECONDS = 6.0
WORK_SECONDS_MAX = 300
FELT_SECONDS = 15.0  # how long after a kill the clients may feel it
BEFORE_SECONDS = 1.0  # the load's clock is another process's: it begins a moment after it was told to
CONSUMERS = ("payments", "bookings", "email")
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
ROLLED = ("ingress-1", "ingress-2", *(f"{name}-{number}" for name in CONSUMERS for number in (1, 2)), *BROKERS)
LETTERS = "select booking_id::text, message_id, possible_duplicates from letters where state = 'sent'"


@dataclass
class Sold:
    """Every sale so far, and its events as Stripe sends them; one booking in ten is due letters."""

    sales: list = field(default_factory=list)
    events: list = field(default_factory=list)
    letters_due: set = field(default_factory=set)
    possible_duplicates: int = 0  # of letters, when it was judged last


@dataclass
class Day:
    """What the client saw; what was done, when (seconds since the load began) how long; what was sent again, by whom."""

    seen: object
    done: list
    resent: int
    redispatched: int


@dataclass
class Verdict:
    """What all of it came to; everything but the counts of letters must be empty or 0."""

    lost: set
    wrong: list
    dead: int
    attention: int
    copies_in_the_log: int
    letters: object
    letters_unexplained: list
    letters_undue: set


async def killed(cluster, sold, folder, *, rate, seconds, say):
    """One broker that leads, one door, one consumer of each kind: each killed with -9, and started again some seconds later."""

    async def harm(done):
        began = time.time()
        broker = BROKERS[await leader_of_most(cluster.kafka) - 1]
        for number, service in enumerate((broker, "ingress-1", *(f"{name}-1" for name in CONSUMERS))):
            await asyncio.sleep(max(began + FIRST_KILL_SECONDS + number * BETWEEN_KILLS_SECONDS - time.time(), 0))
            at = time.time()
            await cluster.kill(service)
            await asyncio.sleep(AWAY_SECONDS)
            await cluster.start(service)
            done.append((service, at, time.time() - at))
            say(f"{service} is well again after {time.time() - at:.1f} s")

    return await _day(cluster, sold, folder, harm, rate=rate, seconds=seconds, say=say)


async def rolled(cluster, sold, folder, *, rate, seconds, say):
    """Every process and every broker stopped and started, one after the other, the next when this one is well again."""

    async def harm(done):
        await asyncio.sleep(FIRST_KILL_SECONDS)
        for service in ROLLED:
            at = time.time()
            await cluster.stop(service)
            await cluster.start(service)
            done.append((service, at, time.time() - at))
            say(f"{service} is well again after {time.time() - at:.1f} s")

    return await _day(cluster, sold, folder, harm, rate=rate, seconds=seconds, say=say)


async def _day(cluster, sold, folder, harm, *, rate, seconds, say):
    await cluster.until_in_sync()
    made = await _made(cluster.engine, sold, int(rate * seconds / 2))
    bodies = {event["id"]: body_of(event) for event in made}
    laid = folder / f"webhooks-{len(sold.events)}.jsonl"
    webhooks.lay(laid, bodies.items())
    say(f"{len(bodies):,} webhooks come, {rate} a second")
    before, done = await cluster.redispatched(), []
    load = await Load(folder, cluster.port, rate, seconds, webhooks=laid).start()
    harming = asyncio.create_task(harm(done))
    seen = await load.seen()
    assert harming.done(), f"the load was over when no more than this was done: {done}"
    await harming
    done = [(service, at - seen.began, seconds) for service, at, seconds in done]
    say("the load is over")
    refused = iter([bodies[event_id] for event_id in bodies.keys() - seen.taken])
    resent = sum(await asyncio.gather(*(_resent(cluster, refused) for _ in range(RESENT_AT_ONCE))))
    return Day(seen, done, resent, await cluster.redispatched() - before)


async def _made(engine, sold, count):
    """Make sales as checkout would have left them; letters of most stand as sent, since each costs as much as ten events."""
    made = await sales(engine, count)
    due = made[::LETTERS_FOR_ONE_IN]
    told = [sale for number, sale in enumerate(made) if number % LETTERS_FOR_ONE_IN]
    for first in range(0, len(told), SALES_AT_ONCE):
        await sent_before(engine, told[first : first + SALES_AT_ONCE])
    events = [event for sale in made for event in (sale.succeeded(), sale.completed())]
    sold.sales += made
    sold.events += events
    sold.letters_due |= {sale.booking_id for sale in due}
    return events


async def _resent(cluster, refused):
    count = 0
    for body in refused:
        await cluster.deliver(body)
        count += 1
    return count


async def judged(cluster, sold, taken, *, say):
    """Wait until nothing is left to do, then hold everything against what was sold; `taken` are ids that were answered 200."""
    payments = len(sold.sales)
    ended = lambda: has_ended(cluster.engine, payments, 2 * payments, 2 * payments)  # noqa: E731 - a name for what is waited for
    await until(ended, "every event is taken, every booking confirmed, every letter sent", deadline_seconds=WORK_SECONDS_MAX)
    await until_caught_up(cluster.kafka, *GROUPS)
    say("nothing is left to do")
    log = await in_the_log(cluster.kafka)
    setting = Setting(
        [oracle.Row(s.payment_id, s.booking_id, s.amount_minor, s.currency, s.session_id) for s in sold.sales],
        [oracle.Booking(s.booking_id) for s in sold.sales],
        sold.events,
    )
    wrong = await differences(
        cluster.engine,
        setting,
        payments_events=[record.value for record in await everything(cluster.kafka, topics.PAYMENTS_EVENTS)],
        bookings_events=[record.value for record in await everything(cluster.kafka, topics.BOOKINGS_EVENTS)],
    )
    dead = [await everything(cluster.kafka, topic) for topic in topics.DEAD_LETTER_TOPICS]
    ledger = await cases.count(await cluster.letters(), cluster.engine)
    sold.possible_duplicates = ledger.possible_duplicates
    async with cluster.engine.begin() as tx:
        [[attention]] = await rows(tx, "select count(*) from attention")
        letters = [(m, possible) for booking_id, m, possible in await rows(tx, LETTERS) if booking_id in sold.letters_due]
    return Verdict(
        lost=taken - set(log),
        wrong=wrong,
        dead=len(list(itertools.chain(*dead))),
        attention=attention,
        copies_in_the_log=len(log) - len(set(log)),
        letters=ledger,
        letters_unexplained=[m for m, possible in letters if not 1 <= ledger.copies[m] <= 1 + possible],
        letters_undue=set(ledger.copies) - {m for m, _ in letters},
    )
