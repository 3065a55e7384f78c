"""Lives drawn at random, taken by the processes themselves over Kafka, one payments consumer killed again and again."""

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from shared.topics import BOOKINGS_EVENTS, PAYMENTS_EVENTS, STRIPE_EVENTS, STRIPE_EVENTS_DLT
from tests.journey.pipeline import PROCESSES
from tests.proof import lives, seeding
from tests.proof.ends import Setting, differences, stories_of_bookings
from tests.proof.randomly import COPIES, DISORDER, FORGED, LATE, LOST, counted
from tests.proof.result import Proved, silent
from tests.support.members import committed, everything
from tests.support.waiting import until

GROUPS = {STRIPE_EVENTS: "payments", PAYMENTS_EVENTS: "bookings", BOOKINGS_EVENTS: "email"}
CONSUMERS = ("payments", "payments-2", "bookings")
PUBLISHED_AT_ONCE = 1_000
SENDERS = 8
# Events must not run out before the kills do, however slowly a busy machine starts a process again.
SECONDS_OF_EVENTS_PER_KILL = 20
KILLED_DISORDER, KILLED_COPIES = 0.2, 0.1


async def through_kafka(pipeline, engine, kafka, *, seed, payments, progress=silent):
    """Prove it for so many payments with two payments processes and one of bookings."""
    drawn = random.Random(seed)
    manifest = await _seeded(engine, lives.draw(drawn, payments_min=payments, forged=FORGED))
    coming = lives.deliver(manifest, drawn, disorder=DISORDER, copies=COPIES, lost=LOST, late=LATE)
    await pipeline.start(*CONSUMERS)
    await pipeline.until_ready(*CONSUMERS)
    topic = STRIPE_EVENTS.named(kafka.topic_prefix)
    async with producer.opened(kafka, client_id="proof", warm=[topic]) as publisher:
        for first in range(0, len(coming.bodies), PUBLISHED_AT_ONCE):
            batch = coming.bodies[first : first + PUBLISHED_AT_ONCE]
            await publisher.publish([Record(topic, drawn.randbytes(8), body) for body in batch], deadline_seconds=60)
            progress(first, len(coming.bodies))
    await until_caught_up(kafka, STRIPE_EVENTS, PAYMENTS_EVENTS)
    await _hold_against_the_oracle(engine, kafka, manifest, coming)
    refused = {record.value for record in await everything(kafka, STRIPE_EVENTS_DLT)}
    assert set(manifest.junk) <= refused, f"dropped in silence: {set(manifest.junk) - refused}"
    return Proved(
        title="Drawn lives against the oracle, through Kafka",
        how="The same kind of lives, processed by real processes through real topics: two of `consumers.payments` and one of "
        "`consumers.bookings`.",
        cases=counted(manifest, coming),
        seed=seed,
    )


async def while_killed(pipeline, engine, kafka, *, seed, events, kills, progress=silent):
    """Prove it from the webhook to the letters while one of two payments consumers is killed again and again."""
    drawn = random.Random(seed)
    manifest = lives.draw(drawn, events_min=events, forged=FORGED)
    manifest.junk.clear()  # the door does not let it in
    await _seeded(engine, manifest)
    coming = lives.deliver(manifest, drawn, disorder=KILLED_DISORDER, copies=KILLED_COPIES)
    names = (*PROCESSES, "payments-2")
    await pipeline.start(*names)
    await pipeline.until_ready(*names)
    killing = asyncio.ensure_future(kill_again_and_again(pipeline, "payments", kills, random.Random(seed)))
    sent = 0

    def told(_body):
        nonlocal sent
        sent += 1
        progress(sent, len(coming.bodies))

    per_second = len(coming.bodies) / (kills * SECONDS_OF_EVENTS_PER_KILL)
    await send(pipeline, coming.bodies, until_then=killing, per_second=per_second, told=told)
    await killing
    await pipeline.until_ready(*names)
    await until_caught_up(kafka, *GROUPS)
    stories = await _hold_against_the_oracle(engine, kafka, manifest, coming)
    await until(lambda: _letters_have_ended(engine), "every letter has ended", deadline_seconds=120, every_seconds=0.25)
    letters = await _letters_are_exact(engine, pipeline, stories)
    return Proved(
        title="Lives while a payments consumer is killed, from the webhook to the letters",
        how=f"Ingress, two payments consumers, bookings and email as processes; {KILLED_DISORDER:.0%} of the events out of "
        f"order, {KILLED_COPIES:.0%} copies, {FORGED:.0%} forged. One payments consumer is killed with -9, each time 0.3 to "
        "2 s after it made progress. No payment and no booking is wrong, and every letter that is due is in the mailbox once.",
        cases=counted(manifest, coming) | {"kills": pipeline.kills["payments"], "letters": letters},
        seed=seed,
    )


async def kill_again_and_again(pipeline, name, kills, drawn):
    """Kill -9, each time 0.3 to 2 s after the process made progress, then start it again."""
    for _ in range(kills):

        async def moved():
            return (await pipeline.progress(name) or 0) > 0

        await until(moved, f"{name} makes progress", deadline_seconds=60, every_seconds=0.1)
        # The moment of the kill is what is drawn here; nothing is waited for.
        await asyncio.sleep(drawn.uniform(0.3, 2.0))
        await pipeline.kill(name)
        await pipeline.start(name)


async def send(pipeline, bodies, *, until_then, per_second, told=lambda body: None):
    """Deliver everything; slowly while processes are being killed, so that every one of them has work when it dies."""
    waiting = iter(bodies)

    async def sender():
        for body in waiting:
            await pipeline.deliver(body)
            told(body)
            if not until_then.done():
                await asyncio.sleep(SENDERS / per_second)

    await asyncio.gather(*(sender() for _ in range(SENDERS)))


async def _seeded(engine, manifest):
    await seeding.people(engine)
    await seeding.bookings(engine, manifest.bookings)
    await seeding.payments(engine, manifest.payments)
    return manifest


async def _hold_against_the_oracle(engine, kafka, manifest, coming):
    setting = Setting(manifest.payments, manifest.bookings, coming.arrived)
    payments_events = [record.value for record in await everything(kafka, PAYMENTS_EVENTS)]
    bookings_events = [record.value for record in await everything(kafka, BOOKINGS_EVENTS)]
    wrong = await differences(engine, setting, payments_events=payments_events, bookings_events=bookings_events)
    assert not wrong, f"{len(wrong)} differences, first {wrong[:3]}"
    return stories_of_bookings(setting, bookings_events)


async def until_caught_up(kafka, *topics):
    """Wait for the consumers in their order: each has committed all that the one before it published."""
    for topic in topics:
        async with _ends(kafka, topic) as end_offsets:

            async def caught_up(topic=topic, end_offsets=end_offsets):
                done = await committed(kafka, topic, GROUPS[topic])
                return all(done.get(place.partition, 0) == end for place, end in (await end_offsets()).items())

            what = f"{GROUPS[topic]} has taken all of {topic.name}"
            await until(caught_up, what, deadline_seconds=600, every_seconds=0.25)


@asynccontextmanager
async def _ends(kafka, topic):
    client = AIOKafkaConsumer(bootstrap_servers=list(kafka.kafka_bootstrap_servers))
    await client.start()
    name = topic.named(kafka.topic_prefix)
    try:
        places = [TopicPartition(name, number) for number in range(topic.partitions)]
        yield lambda: client.end_offsets(places)
    finally:
        await client.stop()


async def _letters_have_ended(engine):
    async with engine.begin() as tx:
        left = await rows(tx, "select count(*) from letters where state not in ('sent', 'suppressed')")
    return left == [(0,)]


async def _letters_are_exact(engine, pipeline, stories):
    """Both confirmations of a booking that stands, once; a cancelled one's were sent before, or suppressed; nobody else's."""
    async with engine.begin() as tx:
        found = await rows(tx, "select booking_id::text, role, state, message_id, kind from letters")
    copies = Counter(letter.message_id for letter in pipeline.mailbox.letters)
    assert set(copies) <= {letter[3] for letter in found}, "letters that nobody entered"
    confirmations = {}
    for booking_id, role, state, message_id, kind in found:
        assert copies[message_id] == (state == "sent"), (
            f"{kind} to {role} of {booking_id}: {state}, {copies[message_id]} copies"
        )
        if kind == "confirmation":
            confirmations.setdefault(booking_id, {})[role] = state
    for booking_id, (story, end) in stories.items():
        told = {one.name for one in story}
        states = confirmations.get(booking_id, {})
        if "booking.cancelled" in told:
            allowed = {"sent", "suppressed"} if "booking.confirmed" in told else {"suppressed"}
        else:
            allowed = {"sent"}
        due = told & {"booking.confirmed", "booking.cancelled"}
        assert set(states) == ({"client", "coach"} if due else set()), f"{booking_id}: {states} after {story}"
        assert set(states.values()) <= allowed, f"{booking_id}: {states} after {story}, {end}"
    return sum(copies.values())
