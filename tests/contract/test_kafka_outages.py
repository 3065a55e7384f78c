"""Bad days of a broker of one's own: frozen, killed, restarted, under running consumers, producers and a process.

A broker takes seconds to start, so all who live through its death live through the same one, told at the end of this file.
"""

import asyncio
from contextlib import AsyncExitStack, aclosing, suppress

import pytest

from shared import clock, errors, topics
from shared.kafka import liveness, producer
from shared.kafka.records import Record
from tests.support.frozen import frozen
from tests.support.members import (
    THINGS,
    BrokerAlone,
    Taken,
    committed,
    everything,
    make_topics,
    member,
    own_kafka,
    process,
)
from tests.support.waiting import until


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The broker of this file."""
    made = BrokerAlone(tmp_path_factory.mktemp("kafka"), durable=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def box(own):
    """The same, started anew for each test: one that stood still may lead nothing for a minute."""
    if not own.broker.is_alive():
        own.broker.start()
    yield own
    own.broker.kill()


@pytest.fixture
def unraised(caplog):
    """What asyncio reports of futures whose exception nobody took."""
    return lambda: [r.getMessage() for r in caplog.records if "never retrieved" in r.getMessage()]


async def test_a_broker_that_is_frozen_ends_a_publish_with_its_deadline(box, unraised):
    """No acknowledgement within the deadline is KafkaAway; then it goes on."""
    kafka = own_kafka(box)
    await make_topics(kafka, THINGS)
    name = THINGS.named(kafka.topic_prefix)
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        await publisher.publish([Record(name, b"k", b"before")])
        with frozen(box.broker.pid):
            await _is_away(publisher, name)
            assert not await publisher.answers(name, deadline_seconds=0.5)
        await publisher.publish([Record(name, b"k", b"thawed")], deadline_seconds=20)
        await until(lambda: publisher.answers(name), "it answers")
    assert {b"before", b"thawed"} <= {r.value for r in await everything(kafka, THINGS)}
    assert unraised() == []


async def _is_away(publisher, name):
    began = clock.monotonic()
    with pytest.raises(errors.KafkaAway):
        await publisher.publish([Record(name, b"k", b"lost or late")] * 50, deadline_seconds=1.0)
    assert clock.monotonic() - began < 3


async def test_sigterm_ends_a_process_whose_broker_is_frozen(box, database, tmp_path):
    """A commit, a join and a stop may each wait for ever on a silent broker: the process does not."""
    kafka = own_kafka(box)
    await make_topics(kafka, *topics.ALL)
    async with process("payments", tmp_path, database=database, kafka=kafka) as running:
        await running.start()
        await until(lambda: running.answers("/health/ready", 200), "it runs")
        with frozen(box.broker.pid):
            status, seconds = await running.terminate()
            assert (status, seconds < 10.5) == (0, True)
            await running.start()
            await until(lambda: running.answers("/health/live", 200), "it waits")
            status, seconds = await running.terminate()
            assert (status, seconds < 10.5) == (0, True)


async def test_whoever_lives_through_an_outage_goes_on(box, database, tmp_path, monkeypatch, unraised):
    """The broker dies, comes back, and dies again, under everybody at once; each teller says what is seen in between."""
    tellers = (
        records_flow(own_kafka(box)),
        a_publish_ends_with_its_deadline(own_kafka(box)),
        liveness_is_not_red_and_a_stuck_batch_is(own_kafka(box), monkeypatch),
        a_process_waits_says_so_once_and_begins(own_kafka(box), database, tmp_path),
    )
    async with AsyncExitStack() as stack:
        for teller in tellers:
            await stack.enter_async_context(aclosing(teller))
        for happens in (box.broker.kill, box.broker.start, box.broker.kill):
            for teller in tellers:
                await anext(teller)
            await asyncio.to_thread(happens)
        for teller in tellers:
            assert await anext(teller, "the end") == "the end"
    assert unraised() == []


async def records_flow(kafka):
    """Records published before, during and after: every one is handled, by the same consumer and producer."""
    await make_topics(kafka, THINGS, partitions=3)
    name = THINGS.named(kafka.topic_prefix)
    taken = Taken()
    sent = 0
    stop = asyncio.Event()

    async def feed(publisher):
        nonlocal sent
        while not stop.is_set():
            with suppress(errors.KafkaAway):
                await publisher.publish([Record(name, str(sent).encode(), str(sent).encode())])
                sent += 1
            await asyncio.sleep(0.01)

    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher, member(kafka, taken) as joined:
        feeding = asyncio.create_task(feed(publisher))
        await until(lambda: len(taken.records) > 20, "records flow")
        yield "dies"
        before = len(taken.records)
        assert await joined.liveness.fault() is None
        yield "comes back"
        await until(lambda: len(taken.records) > before + 20, "records flow again")
        stop.set()
        await feeding
        await until(lambda: len(set(taken.values)) >= sent, "every acknowledged record is handled")
        assert set(taken.values) >= {str(n).encode() for n in range(sent)}
        assert await joined.liveness.fault() is None

        async def all_is_committed():
            return sum((await committed(kafka, THINGS)).values()) == len(await everything(kafka, THINGS))

        await until(all_is_committed, "offsets are committed to the end")
    yield "dies again"


async def a_publish_ends_with_its_deadline(kafka):
    """A broker that is gone is KafkaAway within the deadline; then it goes on."""
    await make_topics(kafka, THINGS)
    name = THINGS.named(kafka.topic_prefix)
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        await publisher.publish([Record(name, b"k", b"before")])
        yield "dies"
        await _is_away(publisher, name)
        yield "comes back"

        async def published():
            with suppress(errors.KafkaAway):
                await publisher.publish([Record(name, b"k", b"after")])
                return True

        await until(published, "it publishes again")
        assert await publisher.answers(name)
    assert {b"before", b"after"} <= {r.value for r in await everything(kafka, THINGS)}
    yield "dies again"


async def liveness_is_not_red_and_a_stuck_batch_is(kafka, monkeypatch):
    """A commit that waits for the cluster is no fault of ours; the same wait while the cluster answers is."""
    await make_topics(kafka, THINGS)
    name = THINGS.named(kafka.topic_prefix)
    go_on = asyncio.Event()
    taken = Taken(holds=go_on)

    async def fault(**seconds):
        # However long the other tellers take, the outage is lately over until it is said not to be.
        with monkeypatch.context() as impatient:
            for limit, value in ({"RECOVERY_SECONDS": 3600.0} | seconds).items():
                impatient.setattr(liveness, limit, value)
            return await joined.liveness.fault()

    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher, member(kafka, taken) as joined:
        await publisher.publish([Record(name, b"k", b"v")])
        await until(lambda: taken.started, "a batch runs")
        assert await fault() is None
        assert "a batch takes longer" in await fault(BATCH_SECONDS_MAX=-1.0)
        yield "dies"
        go_on.set()
        await until(lambda: taken.records, "its commit waits for the cluster")
        assert joined.subscription.busy_since is not None
        assert await fault(BATCH_SECONDS_MAX=-1.0) is None
        yield "comes back"
        # The cluster is back, but what it held up may need a moment.
        assert await fault(BATCH_SECONDS_MAX=-1.0) is None
        await until(lambda: joined.subscription.busy_since is None, "the commit goes through")
        assert await fault(POLL_AGE_SECONDS_MAX=-1.0) is None
        assert "not polled" in await fault(POLL_AGE_SECONDS_MAX=-1.0, RECOVERY_SECONDS=-1.0)
    yield "dies again"


async def a_process_waits_says_so_once_and_begins(kafka, database, tmp_path):
    """Started without Kafka it is alive, not ready, and begins by itself; SIGTERM ends it within ten seconds in both."""
    await make_topics(kafka, *topics.ALL)
    yield "dies"
    async with process("payments", tmp_path, database=database, kafka=kafka) as waiting:
        await waiting.start()
        await waiting.until_said("kafka.away")
        assert await waiting.answers("/health/live", 200)
        assert await waiting.answers("/health/ready", 503)
        assert "\nprocess_ready 0.0\n" in (await waiting.ask("/metrics"))[1]
        status, seconds = await waiting.terminate()
        assert (status, seconds < 10) == (0, True)

        await waiting.start()
        await until(lambda: len(waiting.said("kafka.away")) == 2, "the second one waits too")
        yield "comes back"
        await until(lambda: waiting.answers("/health/ready", 200), "it begins")
        assert "\nprocess_ready 1.0\n" in (await waiting.ask("/metrics"))[1]
        assert len(waiting.said("kafka.away")) == 2
        assert len(waiting.said("kafka.back")) == 1
        yield "dies again"
        await until(lambda: waiting.answers("/health/ready", 503), "an idle consumer without a cluster is not ready")
        assert await waiting.answers("/health/live", 200)
        status, seconds = await waiting.terminate()
        assert (status, seconds < 10) == (0, True)
