"""Publishing on a real broker: nothing returns before Kafka has it, and nothing waits longer than its deadline."""

import asyncio
import gc
import secrets

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaTimeoutError

from shared import clock, errors, topics
from shared.kafka import metadata_pause, producer
from shared.kafka.records import Record
from shared.topics import DEAD_LETTER_BYTES_MAX
from tests.support.members import THINGS, administration, everything, make_topics
from tests.support.waiting import until


@pytest.fixture
async def name(kafka):
    await make_topics(kafka, THINGS, partitions=3)
    return THINGS.named(kafka.topic_prefix)


async def test_what_was_published_is_in_the_log_with_key_bytes_and_headers(kafka, name):
    """Published means readable, by anybody, as it was given."""
    headers = (("content-type", b"application/json"), ("traceparent", b"00-1"))
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        await publisher.publish([Record(name, b"key", b"\x00value\xff", headers)])
        [found] = await everything(kafka, THINGS)

    assert (found.key, found.value, found.headers) == (b"key", b"\x00value\xff", headers)


async def test_publish_returns_only_after_the_acknowledgement(kafka, name):
    """While the acknowledgement is held back, the caller waits."""
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        acknowledged = asyncio.get_running_loop().create_future()
        send = publisher._client.send_batch

        async def slow(*batch, **place):
            return asyncio.gather(await send(*batch, **place), acknowledged)

        publisher._client.send_batch = slow
        publishing = asyncio.create_task(publisher.publish([Record(name, b"k", b"v")]))

        async def is_in_the_log():
            return len(await everything(kafka, THINGS)) == 1

        await until(is_in_the_log, "the broker has it")
        assert not publishing.done()
        acknowledged.set_result(None)
        await publishing

    assert (publisher._client._sender._acks, publisher._client._txn_manager) == (-1, None)


async def test_records_of_one_key_stay_in_order_in_one_partition(kafka, name):
    """The key alone chooses the partition, so that one booking's records keep their order."""
    records = [Record(name, f"key-{n % 5}".encode(), str(n).encode()) for n in range(200)]
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        await publisher.publish(records)

    found = await everything(kafka, THINGS)
    for key in {r.key for r in records}:
        assert len({r.partition for r in found if r.key == key}) == 1
        assert [r.value for r in found if r.key == key] == [r.value for r in records if r.key == key]
    assert len({r.partition for r in found}) > 1


async def test_a_record_as_large_as_the_map_allows_passes(kafka, name):
    """A record larger than a batch buffer still goes, alone."""
    value = bytes(range(256)) * 4000
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        await publisher.publish([Record(name, b"k", value)])

    assert (await everything(kafka, THINGS))[0].value == value


async def test_a_record_that_is_too_large_is_the_data_s_fault(kafka, name):
    """Repeating would not help: Permanent, at once, nothing of the call is sent, and the producer goes on."""
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        with pytest.raises(errors.Permanent):
            await publisher.publish([Record(name, b"k", b"small"), Record(name, b"k", b"x" * (DEAD_LETTER_BYTES_MAX + 1))])
        await publisher.publish([Record(name, b"k", b"after")])

    assert [r.value for r in await everything(kafka, THINGS)] == [b"after"]


async def test_a_record_that_the_broker_finds_too_large_costs_no_neighbour(kafka, name):
    """The topic takes less than the producer knows of: what is published beside it at the same moment arrives."""
    small = [Record(name, b"k", str(n).encode()) for n in range(40)]
    large = Record(name, b"k", secrets.token_bytes(THINGS.message_bytes_max))
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        results = await asyncio.gather(
            *(publisher.publish([record]) for record in [*small[:20], large, *small[20:]]), return_exceptions=True
        )

    assert isinstance(results.pop(20), errors.Permanent)
    assert results == [None] * 40
    assert [r.value for r in await everything(kafka, THINGS)] == [r.value for r in small]


async def test_an_unknown_topic_ends_with_the_deadline(kafka):
    """Nothing is created by being used; whoever publishes there is told in time."""
    async with producer.opened(kafka, client_id="tests") as publisher:
        began = clock.monotonic()
        with pytest.raises(errors.KafkaAway):
            await publisher.publish([Record(f"{kafka.topic_prefix}nobody.made.this", b"k", b"v")], deadline_seconds=0.5)
        assert clock.monotonic() - began < 5


async def test_a_topic_that_is_gone_while_something_waits_for_it_spins_no_core(kafka, name, monkeypatch):
    """aiokafka's sender would ask for its leaders a thousand times a second; what is for another topic waits for none of it."""
    other = topics.Topic("others", key="", value="", producers=(), consumers=(), retention_days=1)
    gone = other.named(kafka.topic_prefix)
    await make_topics(kafka, other)
    asked = []
    update = AIOKafkaClient._metadata_update
    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", lambda *told: asked.append(told) or update(*told))
    async with producer.opened(kafka, client_id="tests", warm=[name, gone]) as publisher, administration(kafka) as admin:
        await admin.delete_topics([gone])
        waiting = asyncio.create_task(publisher.publish([Record(gone, b"k", b"v")], deadline_seconds=4.0))
        await until(lambda: len(asked) > 3, "the sender asks who leads it")
        asked.clear()
        began = clock.monotonic()
        for _ in range(10):
            await publisher.publish([Record(name, b"k", b"v")])
        took = clock.monotonic() - began
        with pytest.raises(errors.KafkaAway):
            await waiting
        seconds = clock.monotonic() - began
        questions = len(asked)
        await make_topics(kafka, other)
        await publisher.publish([Record(gone, b"k", b"v")], deadline_seconds=20)
        await publisher.emptied()
    assert questions < 20 + 10 * seconds
    assert took < 10 * metadata_pause.LEADERLESS_PAUSE_SECONDS


async def test_one_topic_that_is_gone_is_missed_at_once(kafka, name):
    """What the client remembers of it is minutes old, and whoever reads several topics needs each."""
    other = topics.Topic("others", key="", value="", producers=(), consumers=(), retention_days=1)
    gone = other.named(kafka.topic_prefix)
    await make_topics(kafka, other)
    async with producer.opened(kafka, client_id="tests", warm=[name, gone]) as publisher, administration(kafka) as admin:
        await until(lambda: publisher.answers(name, gone), "both are known")
        await admin.delete_topics([gone])

        async def missed():
            return not await publisher.answers(name, gone)

        await until(missed, "one of them is not there", deadline_seconds=10)
        assert await publisher.answers(name)


async def test_a_sender_task_that_ended_is_noticed(kafka, name):
    """Every later record would wait in vain."""
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        assert not publisher.is_dead
        publisher._client._sender.sender_task.cancel()
        await until(lambda: publisher.is_dead, "it is noticed")


async def test_a_delivery_that_fails_after_its_deadline_is_not_reported_as_never_retrieved(kafka, name):
    """An outage abandons many: each would flood the log when it is collected."""
    reported, late = [], []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["message"]))
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:

        async def send(*_arguments, **_options):
            late.append(loop.create_future())
            return late[-1]

        publisher._client.send_batch = send
        with pytest.raises(errors.KafkaAway):
            await publisher.publish([Record(name, b"k", b"v")] * 3, deadline_seconds=0.05)
        [batch] = late
        batch.set_exception(KafkaTimeoutError())
        await publisher.emptied()
        late.clear()
        del batch
        gc.collect()

    assert reported == []
