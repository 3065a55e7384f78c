"""Bad days of a broker of one's own: killed, frozen, restarted, under a running consumer and producer."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from shared import clock, errors, topics
from shared.kafka import liveness, producer
from shared.kafka.records import Record
from tests.members import (
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
from tests.waiting import until


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    own = BrokerAlone(tmp_path_factory.mktemp("kafka"), durable=False)
    own.start()
    yield own
    own.stop()


@pytest.fixture
def box(services):
    """The broker of this file, running again whatever the test before did to it."""
    if not services.broker.is_alive():
        services.broker.start()
    return services


@pytest.fixture
def unraised(caplog):
    """What asyncio reports of futures whose exception nobody took."""
    return lambda: [r.getMessage() for r in caplog.records if "never retrieved" in r.getMessage()]


async def test_a_broker_that_is_killed_and_restarted_costs_nothing(box, unraised):
    """Records published before, during and after: every one is handled, by the same consumer and producer."""
    kafka = own_kafka(box)
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
        await asyncio.to_thread(box.broker.kill)
        before = len(taken.records)
        assert await liveness.fault(joined.subscription) is None
        await asyncio.to_thread(box.broker.start)
        await until(lambda: len(taken.records) > before + 20, "records flow again")
        stop.set()
        await feeding
        await until(lambda: len(set(taken.values)) >= sent, "every acknowledged record is handled")
        assert set(taken.values) >= {str(n).encode() for n in range(sent)}
        assert await liveness.fault(joined.subscription) is None

        async def all_is_committed():
            return sum((await committed(kafka, THINGS)).values()) == len(await everything(kafka, THINGS))

        await until(all_is_committed, "offsets are committed to the end")
    assert unraised() == []


async def test_a_broker_that_is_frozen_or_dead_ends_a_publish_with_its_deadline(box, unraised):
    """No acknowledgement within the deadline is KafkaAway, whether the broker is silent or gone; then it goes on."""
    kafka = own_kafka(box)
    await make_topics(kafka, THINGS)
    name = THINGS.named(kafka.topic_prefix)
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        await publisher.publish([Record(name, b"k", b"before")])
        os.kill(box.broker.pid, signal.SIGSTOP)
        try:
            await _is_away(publisher, name)
            assert not await publisher.answers(name, deadline_seconds=0.5)
        finally:
            os.kill(box.broker.pid, signal.SIGCONT)
        await publisher.publish([Record(name, b"k", b"thawed")], deadline_seconds=20)
        await asyncio.to_thread(box.broker.kill)
        await _is_away(publisher, name)
        await asyncio.to_thread(box.broker.start)

        async def published():
            with suppress(errors.KafkaAway):
                await publisher.publish([Record(name, b"k", b"after")])
                return True

        await until(published, "it publishes again")
        assert await publisher.answers(name)
    values = [r.value for r in await everything(kafka, THINGS)]
    assert {b"before", b"thawed", b"after"} <= set(values)
    assert unraised() == []


async def _is_away(publisher, name):
    began = clock.monotonic()
    with pytest.raises(errors.KafkaAway):
        await publisher.publish([Record(name, b"k", b"lost or late")] * 50, deadline_seconds=1.0)
    assert clock.monotonic() - began < 3


async def test_an_outage_never_turns_liveness_red_and_a_stuck_batch_does(box, monkeypatch):
    """A commit that waits for the cluster is no fault of ours; the same wait while the cluster answers is."""
    kafka = own_kafka(box)
    await make_topics(kafka, THINGS)
    name = THINGS.named(kafka.topic_prefix)
    go_on = asyncio.Event()
    taken = Taken(holds=go_on)
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher, member(kafka, taken) as joined:
        await publisher.publish([Record(name, b"k", b"v")])
        await until(lambda: taken.started, "a batch runs")
        assert await liveness.fault(joined.subscription) is None
        monkeypatch.setattr(liveness, "BATCH_SECONDS_MAX", -1.0)
        assert "a batch takes longer" in await liveness.fault(joined.subscription)
        await asyncio.to_thread(box.broker.kill)
        go_on.set()
        await until(lambda: taken.records, "its commit waits for the cluster")
        assert joined.subscription.busy_since is not None
        assert await liveness.fault(joined.subscription) is None
        await asyncio.to_thread(box.broker.start)
        # The cluster is back, but what it held up may need a moment.
        assert await liveness.fault(joined.subscription) is None
        await until(lambda: joined.subscription.busy_since is None, "the commit goes through")
        monkeypatch.setattr(liveness, "POLL_AGE_SECONDS_MAX", -1.0)
        assert await liveness.fault(joined.subscription) is None
        monkeypatch.setattr(liveness, "RECOVERY_SECONDS", -1.0)
        assert "not polled" in await liveness.fault(joined.subscription)


async def test_a_process_started_without_kafka_waits_says_so_once_and_begins(box, database, tmp_path):
    """It is alive, not ready, and begins by itself; SIGTERM ends it within ten seconds also while it waits."""
    kafka = own_kafka(box)
    await make_topics(kafka, *topics.ALL)
    await asyncio.to_thread(box.broker.kill)
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
        await asyncio.to_thread(box.broker.start)
        await until(lambda: waiting.answers("/health/ready", 200), "it begins")
        assert "\nprocess_ready 1.0\n" in (await waiting.ask("/metrics"))[1]
        assert len(waiting.said("kafka.away")) == 2
        assert len(waiting.said("kafka.back")) == 1

        await asyncio.to_thread(box.broker.kill)
        await until(lambda: waiting.answers("/health/ready", 503), "an idle consumer without a cluster is not ready")
        assert await waiting.answers("/health/live", 200)
        status, seconds = await waiting.terminate()
        assert (status, seconds < 10) == (0, True)


async def test_sigterm_ends_a_process_whose_broker_is_frozen(box, database, tmp_path):
    """A commit, a join and a stop may each wait for ever on a silent broker: the process does not."""
    kafka = own_kafka(box)
    await make_topics(kafka, *topics.ALL)
    async with process("payments", tmp_path, database=database, kafka=kafka) as running:
        await running.start()
        await until(lambda: running.answers("/health/ready", 200), "it runs")
        os.kill(box.broker.pid, signal.SIGSTOP)
        try:
            status, seconds = await running.terminate()
            assert (status, seconds < 10.5) == (0, True)
            await running.start()
            await until(lambda: running.answers("/health/live", 200), "it waits")
            status, seconds = await running.terminate()
            assert (status, seconds < 10.5) == (0, True)
        finally:
            os.kill(box.broker.pid, signal.SIGCONT)
