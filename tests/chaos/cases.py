"""Three bad days of the email process: a mailbox that is always full, a mail server that is away, kills without end.

Each case drives a pipeline whose email process is not started yet, and returns what it saw; what must hold on any machine,
at any length, it asserts itself. How long, how often and within which times is its caller's: `tests/chaos/letters.py` for the
full forms, `tests/journey/test_letters_chaos.py` for the short ones.
"""

import asyncio
import itertools
import random
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp

from consumers.email.sending import LETTERS_AT_ONCE_MAX
from deploy.dev.mailbox import Fault, Switches
from shared import clock, messages, topics
from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from tests.support.builders import Sale, booking_event, confirmed, insert_sales
from tests.support.waiting import until

LADDER_SECONDS = tuple(topic.delay_seconds for topic in topics.EMAIL_LADDER)
FULL = "full@example.org"
LOGIN = ("letters", "a password of the mail server")
TICK_SECONDS = 0.1
LETTERS_OPEN_MAX = 500  # some seconds' letters: whoever dies leaves enough to do
CANCELLED_EVERY = 10  # one booking in so many is called off before it is confirmed: nobody is due a letter


@dataclass
class Ledger:
    """What the ledger of letters and the mailbox say, counted."""

    states: Counter = field(default_factory=Counter)
    attempts_max: int = 0
    copies: Counter = field(default_factory=Counter)
    possible_duplicates: int = 0

    @property
    def duplicates(self):
        return sum(self.copies.values()) - len(self.copies)


@asynccontextmanager
async def publishing(pipeline, kafka):
    """Give a function that publishes bookings' events, acknowledged."""
    topic = topics.BOOKINGS_EVENTS.named(kafka.topic_prefix)

    async with producer.opened(kafka, client_id="chaos", warm=[topic]) as opened:

        async def publish(*events):
            await opened.publish([Record(topic, messages.subject_of(event).encode(), event) for event in events])

        yield publish


async def sales_of(engine, count, *, status="confirmed"):
    made = [Sale() for _ in range(count)]
    async with engine.begin() as tx:
        await insert_sales(tx, *made, booking_status=status)
    return made


async def full_mailbox(pipeline, engine, publish, *, others, seconds):
    """One recipient is always answered 450; `others` letters go out beside it over so many seconds.

    Returns how late each retry of the one was (seconds after its due time), and how long each of the others took.
    """
    [unlucky], lucky = await sales_of(engine, 1), await sales_of(engine, others // 2)
    async with engine.begin() as tx:
        await rows(tx, "update users set email = $1 where id = $2::uuid", FULL, unlucky.client_id)
    await pipeline.mailbox.switch(Switches(faults=(Fault(at="rcpt", what=450, recipient=FULL),)))
    await pipeline.start("email")
    await pipeline.until_ready("email")
    await publish(confirmed(unlucky))
    published_at = {}
    for sale in lucky:
        await publish(confirmed(sale))
        published_at[sale.client_id[:8]] = published_at[sale.coach_id[:8]] = clock.now()
        await asyncio.sleep(seconds / len(lucky))

    async def ended():
        return (await states(engine)) == {"dead": 1, "sent": 1 + 2 * len(lucky)}

    await until(ended, "the one letter is given up, and all others are sent", deadline_seconds=90, every_seconds=0.2)
    named = pipeline.mailbox.named_at(FULL)
    assert len(named) == 1 + len(LADDER_SECONDS)
    gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(named)]
    late = [gap - seconds for gap, seconds in zip(gaps, LADDER_SECONDS, strict=True)]
    assert min(late) >= 0, late
    arrived = {letter.to[0].split("-")[1][:8]: letter.received_at for letter in pipeline.mailbox.letters}
    took = [(arrived[person] - at).total_seconds() for person, at in published_at.items()]
    return late, took


async def away(pipeline, engine, publish, certificate, *, down_seconds, password_seconds, bookings_per_second):
    """The mail server is down, then it refuses our password, and all the while bookings are confirmed.

    Readiness must tell each reason; afterwards every letter has arrived once and none is dead. Returns the ledger and how
    many seconds after the end of the trouble the last letter was sent.
    """
    pipeline.settings |= {
        "SMTP_HOST": "localhost",
        "SMTP_SECURITY": "starttls",
        "SMTP_USER": LOGIN[0],
        "SMTP_PASSWORD": LOGIN[1],
        "SMTP_SSL_CA_FILE": str(certificate),
    }
    await pipeline.start("email")
    await pipeline.until_ready("email")
    told = 0

    async def confirm_for(seconds):
        nonlocal told
        ends_at = clock.monotonic() + seconds
        while True:
            [sale] = await sales_of(engine, 1)
            await publish(confirmed(sale))
            told += 2
            if clock.monotonic() >= ends_at:
                return
            await asyncio.sleep(1 / bookings_per_second)

    await confirm_for(0)
    await until(lambda: settled(engine, told), "the first letters are sent", deadline_seconds=30)
    await pipeline.mailbox.switch(Switches(listening=False))
    await confirm_for(down_seconds)
    await until(
        lambda: tells(pipeline, "it cannot be reached"), "readiness tells that the mail server is away", deadline_seconds=60
    )
    await pipeline.mailbox.switch(Switches(faults=(Fault(at="auth", what=535),)))
    await confirm_for(password_seconds)
    await until(lambda: tells(pipeline, "AUTH (user or password)"), "readiness tells of the password", deadline_seconds=60)
    await pipeline.mailbox.switch(Switches())
    well_at = clock.monotonic()
    await until(lambda: settled(engine, told), "every letter is sent", deadline_seconds=60)
    recovered_seconds = clock.monotonic() - well_at
    ledger = await count(pipeline.mailbox.letters, engine)
    assert ledger.states == {"sent": told}
    assert (ledger.duplicates, ledger.possible_duplicates, len(ledger.copies)) == (0, 0, told)
    return ledger, recovered_seconds


async def killed(pipeline, engine, publish, *, kills, bookings_per_second, seed, leases_end_with_their_holder):
    """The email process dies again and again while bookings are confirmed, and some of them are called off first.

    Every letter that is due must arrive; a second copy only of a letter that was handed over when its sender died, under the
    same Message-ID, and counted; nobody who is due nothing hears of it. Returns the ledger, and how many bookings a second were
    confirmed or called off.
    """
    rng, over = random.Random(seed), asyncio.Event()
    due, none = [], []

    async def confirm():
        began = until_now = clock.monotonic()
        number = 0
        while not over.is_set():
            coming = int((clock.monotonic() - until_now) * bookings_per_second)
            until_now += coming / bookings_per_second
            # On a machine that is too slow for this rate ever more would be left for the end.
            if 2 * len(due) - len(pipeline.mailbox.store) < LETTERS_OPEN_MAX:
                numbers = range(number + 1, number + 1 + coming)
                off = await sales_of(engine, sum(n % CANCELLED_EVERY == 0 for n in numbers), status="cancelled")
                on = await sales_of(engine, coming - len(off))
                await publish(*(event for sale in off for event in (cancelled(sale), confirmed(sale))), *map(confirmed, on))
                number += coming
                none.extend(off)
                due.extend(on)
            await asyncio.sleep(TICK_SECONDS)
        return number / (clock.monotonic() - began)

    await pipeline.start("email")
    await pipeline.until_ready("email")
    confirming = asyncio.create_task(confirm())
    for _ in range(kills):

        async def moved():
            return (await pipeline.progress("email") or 0) > 0

        await until(moved, "the email process makes progress", deadline_seconds=60, every_seconds=0.1)
        # The moment of the kill is what is drawn here; nothing is waited for.
        await asyncio.sleep(rng.uniform(0.3, 2.0))
        await pipeline.kill("email")
        if leases_end_with_their_holder:
            async with engine.begin() as tx:
                await rows(tx, "update letters set lease_until = now() where state = 'sending'")
        await pipeline.start("email")
    over.set()
    rate = await confirming

    async def all_ended():
        async with engine.begin() as tx:
            found = await rows(tx, "select kind, state, count(*) from letters group by 1, 2")
        return {(k, s): n for k, s, n in found} == {
            ("confirmation", "sent"): 2 * len(due),
            ("confirmation", "suppressed"): 2 * len(none),
            ("cancellation", "suppressed"): 2 * len(none),
        }

    await until(all_ended, "every letter that is due is sent, and no other", deadline_seconds=180, every_seconds=0.2)
    arrived = pipeline.mailbox.letters
    ledger = await count(arrived, engine)
    people = {person[:8] for sale in none for person in (sale.client_id, sale.coach_id)}
    async with engine.begin() as tx:
        mine = await rows(tx, "select message_id, possible_duplicates from letters where state = 'sent'")
    assert set(ledger.copies) == {message_id for message_id, _ in mine}
    assert [m for m, possible in mine if ledger.copies[m] > 1 + possible] == []
    assert [letter.to for letter in arrived if letter.to[0].split("-")[1][:8] in people] == []
    assert ledger.duplicates <= ledger.possible_duplicates <= kills * LETTERS_AT_ONCE_MAX
    return ledger, rate


def cancelled(sale):
    """The bytes of this sale's `booking.cancelled`."""
    return booking_event(sale, "booking.cancelled", version=2, reason="refunded")


async def states(engine):
    async with engine.begin() as tx:
        return dict(map(tuple, await rows(tx, "select state, count(*) from letters group by state")))


async def settled(engine, count):
    return await states(engine) == {"sent": count}


async def tells(pipeline, reason):
    """Whether readiness is red for this reason."""
    with suppress(aiohttp.ClientError):
        async with pipeline.http.get(f"http://127.0.0.1:{pipeline._health['email']}/health/ready") as answer:
            return answer.status == 503 and reason in " ".join((await answer.json())["reasons"])
    return False


async def count(letters, engine):
    """Count what is in the ledger, and in the mailbox: these letters."""
    async with engine.begin() as tx:
        [[attempts, possible]] = await rows(tx, "select max(attempts), sum(possible_duplicates) from letters")
    copies = Counter(letter.message_id for letter in letters)
    return Ledger(Counter(await states(engine)), attempts, copies, int(possible))
