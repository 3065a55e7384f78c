"""Records that are due later, on a real broker: they stay in Kafka, and hold up neither a neighbour, a rebalance nor a stop."""

import asyncio
import dataclasses

from shared import clock
from tests.support.members import THINGS, Taken, committed, make_topics, member, put
from tests.support.waiting import until

LATER = dataclasses.replace(THINGS, name="later", delay_seconds=16)


def due_in(seconds):
    return [("x-due-ms", str(int((clock.now().timestamp() + seconds) * 1000)).encode())]


async def test_a_record_is_handled_when_it_is_due_and_not_before(kafka):
    """Behind its head a partition waits; the offset passes each record only once it was handled."""
    await make_topics(kafka, LATER)
    await put(kafka, LATER, b"now", headers=due_in(-1))
    due = due_in(1.0)
    await put(kafka, LATER, b"soon", headers=due)
    taken_at = {}

    async def handle(records):
        taken_at.update((record.value, clock.now().timestamp() * 1000) for record in records)

    async with member(kafka, handle, topic=LATER):
        await until(lambda: b"now" in taken_at, "what is due is handled")

        async def first_is_committed():
            return await committed(kafka, LATER) == {0: 1}

        await until(first_is_committed, "its offset is committed, and no other")
        await until(lambda: b"soon" in taken_at, "the other one is handled")

        async def both_are_committed():
            return await committed(kafka, LATER) == {0: 2}

        await until(both_are_committed, "both offsets are committed")

    assert taken_at[b"soon"] >= int(due[0][1])


async def test_a_partition_that_waits_holds_up_no_other(kafka):
    """What is due elsewhere comes at once, also after the wait began."""
    await make_topics(kafka, LATER, partitions=2)
    await put(kafka, LATER, b"in a quarter of a minute", partition=0, headers=due_in(15))
    taken = Taken()
    async with member(kafka, taken, topic=LATER) as joined:
        await until(joined.consumer.paused, "the partition pauses")
        for number in range(3):
            await put(kafka, LATER, b"%d" % number, partition=1, headers=due_in(0))
            await until(lambda n=number: b"%d" % n in taken.values, "the other partition goes on", deadline_seconds=5)

    assert taken.values == [b"0", b"1", b"2"]


async def test_what_waits_until_it_is_due_has_no_age(kafka):
    """It waits on purpose; only what is due and not handled is late."""
    await make_topics(kafka, LATER)
    hour_ago_ms = int(clock.now().timestamp() * 1000) - 3_600_000
    await put(kafka, LATER, b"late", headers=due_in(-3590), timestamp_ms=hour_ago_ms)
    await put(kafka, LATER, b"in a quarter of a minute", headers=due_in(15))
    go_on = asyncio.Event()
    taken = Taken(holds=go_on)
    async with member(kafka, taken, topic=LATER) as joined:
        await until(lambda: taken.calls, "what is due is at hand")
        assert joined.subscription.oldest_timestamp_ms == hour_ago_ms
        go_on.set()
        await until(lambda: taken.records and joined.subscription.busy_since is None, "it is handled")
        assert joined.subscription.oldest_timestamp_ms is None
        assert joined.consumer.paused()


async def test_a_stop_during_a_wait_is_quick_and_loses_nothing(kafka):
    """Nobody sleeps: the member leaves at once, and the next one finds the record where it was."""
    await make_topics(kafka, LATER)
    await put(kafka, LATER, b"a", headers=due_in(2))
    first, second = Taken(), Taken()
    async with member(kafka, first, topic=LATER) as joined:
        await until(joined.consumer.paused, "the partition pauses")
        async with asyncio.timeout(1):
            await joined.stop()
    async with member(kafka, second, topic=LATER):
        await until(lambda: second.records, "the next member handles it")

    assert (first.values, second.values) == ([], [b"a"])


async def test_a_rebalance_during_a_wait_leaves_each_record_to_whoever_has_its_partition(kafka):
    """A pause goes with its partition: both members handle what is theirs, once, when it is due."""
    await make_topics(kafka, LATER, partitions=2)
    for partition in (0, 1):
        await put(kafka, LATER, b"%d" % partition, partition=partition, headers=due_in(3))
    first, second = Taken(), Taken()
    async with member(kafka, first, topic=LATER) as older:
        await until(lambda: len(older.consumer.paused()) == 2, "both partitions pause")
        async with member(kafka, second, topic=LATER) as newer:
            await until(lambda: (len(older.partitions), len(newer.partitions)) == (1, 1), "each has one")
            await until(lambda: first.records and second.records, "each handles its own")

    assert sorted(first.values + second.values) == [b"0", b"1"]


async def test_a_batch_that_fails_beside_a_wait_comes_again_at_once(kafka):
    """What was due does not wait for what is not, though both lie in one partition."""
    await make_topics(kafka, LATER)
    await put(kafka, LATER, b"due", headers=due_in(-1))
    await put(kafka, LATER, b"not yet", headers=due_in(15))
    taken = Taken(fails=lambda _records: RuntimeError("away") if taken.calls == 1 else None)
    async with member(kafka, taken, topic=LATER):
        await until(lambda: taken.records, "it is handled", deadline_seconds=5)

    assert taken.values == [b"due"]
