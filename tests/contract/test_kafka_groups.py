"""A group of several members on a real broker: who has which records, and when."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewPartitions
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatResponse_v1

from shared import metrics
from shared.kafka import broker, connection, rewinding
from shared.kafka.rewinding import RewindingConsumer
from shared.kafka.subscription import Subscription
from tests.support.members import THINGS, End, Taken, administration, committed, make_topics, member, put
from tests.support.waiting import until

PARTITIONS = 4


async def test_a_rebalance_waits_for_the_running_batch(kafka):
    """A second member joins while a batch runs: it gets no partition before that batch is committed."""
    await make_topics(kafka, THINGS, partitions=2)
    await put(kafka, THINGS, b"zero", partition=0)
    await put(kafka, THINGS, b"one", partition=1)
    go_on = asyncio.Event()
    first, second = Taken(holds=go_on), Taken()
    async with AsyncExitStack() as stack:
        older = await stack.enter_async_context(member(kafka, first))
        await until(lambda: first.started, "a batch runs")
        joining = asyncio.create_task(stack.enter_async_context(member(kafka, second)))
        await until(lambda: older.consumer._subscription.reassignment_in_progress, "the group rebalances")
        assert not joining.done()
        assert await committed(kafka, THINGS) == {}
        go_on.set()
        await joining
        await put(kafka, THINGS, b"zero again", partition=0)
        await put(kafka, THINGS, b"one again", partition=1)
        await until(lambda: len(first.records + second.records) >= 4, "all are handled")

    assert sorted(first.values + second.values) == [b"one", b"one again", b"zero", b"zero again"]


async def test_partitions_that_were_added_are_read_soon(kafka, monkeypatch):
    """Left to itself a client asks for them after five minutes, and no lag tells of what lies there."""
    monkeypatch.setattr(broker, "METADATA_AGE_MS_MAX", 300)
    await make_topics(kafka, THINGS, partitions=1)
    taken = Taken()
    async with member(kafka, taken):
        async with administration(kafka) as admin:
            await admin.create_partitions({THINGS.named(kafka.topic_prefix): NewPartitions(2)})
        await put(kafka, THINGS, b"in the new one", partition=1)
        await until(lambda: taken.records, "it is handled")


@pytest.mark.parametrize("while_away", [False, True])
async def test_partitions_that_were_added_are_read_after_the_leader_was_started_again(kafka, monkeypatch, while_away):
    """Kafka gives a static member its place back, and does not tell it that the place was the leader's, who alone watches."""
    monkeypatch.setattr(broker, "METADATA_AGE_MS_MAX", 300)
    await make_topics(kafka, THINGS, partitions=1)
    static = kafka.model_copy(update={"kafka_instance_id": "pod-0"})
    taken = Taken()

    async def add_a_partition():
        async with administration(kafka) as admin:
            await admin.create_partitions({THINGS.named(kafka.topic_prefix): NewPartitions(2)})
        await put(kafka, THINGS, b"in the new one", partition=1)

    async with member(static, Taken()):
        pass
    if while_away:
        await add_a_partition()
    async with member(static, taken):
        if not while_away:
            await add_a_partition()
        await until(lambda: taken.records, "it is handled", deadline_seconds=20)


async def test_members_that_come_and_go_never_handle_a_record_at_the_same_time(kafka):
    """Three members join and leave under load: every record is handled, none by two at once."""
    await make_topics(kafka, THINGS, partitions=PARTITIONS)
    at_work, twice, handled = {}, [], set()

    def handler(name):
        async def handle(records):
            mine = {record.place for record in records}
            twice.extend(place for place in mine if at_work.get(place, name) != name)
            at_work.update(dict.fromkeys(mine, name))
            await asyncio.sleep(0.01)
            for place in mine:
                at_work.pop(place, None)
            handled.update(r.value for r in records)

        return handle

    async def feed():
        for number in range(25):
            for partition in range(PARTITIONS):
                values = [f"{number}/{partition}/{i}".encode() for i in range(10)]
                await put(kafka, THINGS, *values, partition=partition)

    async with member(kafka, handler("a"), records_max=5):
        feeding = asyncio.create_task(feed())
        async with member(kafka, handler("b"), records_max=5):
            await until(lambda: len(handled) > 100, "work goes on")
            async with member(kafka, handler("c"), records_max=5):
                await until(lambda: len(handled) > 300, "work goes on")
        await feeding
        await until(lambda: len(handled) == 1000, "every record is handled")

    assert twice == []


async def test_a_back_off_does_not_hold_a_rebalance_up_and_its_trouble_is_forgotten(kafka, monkeypatch):
    """The partition of a failing batch goes to another member: the first is well again, though it never succeeded."""
    monkeypatch.setattr("shared.kafka.backoff.DELAY_SECONDS_MIN", 60.0)
    monkeypatch.setattr("shared.kafka.backoff.DELAY_SECONDS_MAX", 60.0)
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    first, second = Taken(fails=lambda _records: RuntimeError("database away")), Taken()
    async with member(kafka, first, client_id="z") as older:
        await until(lambda: older.subscription.trouble, "the batch fails")
        async with asyncio.timeout(20), member(kafka, second, client_id="a"):
            await until(lambda: second.records, "the newer member handles it")
            await until(lambda: older.partitions == set(), "the older one has nothing left")
            assert older.subscription.trouble is None
            assert older.subscription.oldest_timestamp_ms is None

    assert first.records == []


async def test_a_commit_that_the_group_refuses_is_survived(kafka, monkeypatch, caplog):
    """The group moved on without this member: that is counted and told once, the batch comes again, the next ones go on."""
    monkeypatch.setattr(broker, "SESSION_TIMEOUT_MS", 6_000)  # the shortest that Kafka allows
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    calls = []

    async def handle(records):
        calls.append([r.value for r in records])
        if len(calls) == 1:
            joined.consumer._coordinator.generation += 7

    failures = metrics.commit_failures.labels(THINGS.named(kafka.topic_prefix))
    async with member(kafka, handle) as joined:
        await until(lambda: len(calls) >= 2, "the batch comes again")
        await put(kafka, THINGS, b"b")
        await until(lambda: calls[-1] == [b"b"], "the next one goes on")

        async def both_are_committed():
            return await committed(kafka, THINGS) == {0: 2}

        await until(both_are_committed, "offsets are committed again")

    assert failures._value.get() == 1
    assert calls == [[b"a"], [b"a"], [b"b"]]
    # FastStream's policy would commit again, outside the lock, and call the same refusal critical without saying what it is.
    assert not [said for said in caplog.records if (said.name, said.levelname) == (broker.FASTSTREAM.name, "CRITICAL")]


async def test_a_batch_longer_than_the_group_waits_for_is_repeated_and_commits_nothing_of_another(kafka, monkeypatch):
    """The other member has it meanwhile; the late one neither fails nor moves offsets."""
    monkeypatch.setattr("shared.kafka.subscription.IN_FLIGHT_WAIT_SECONDS", 0.1)
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    go_on = asyncio.Event()
    first, second = Taken(holds=go_on), Taken()
    async with member(kafka, first, client_id="z") as older:
        await until(lambda: first.started, "a batch runs")
        async with member(kafka, second, client_id="a"):
            await until(lambda: second.records, "the other member has it")
            go_on.set()
            await until(lambda: older.subscription.busy_since is None, "the late one ends")
            await put(kafka, THINGS, b"b")
            await until(lambda: len(second.records) == 2, "work goes on")
            assert older.subscription.trouble is None

    assert (first.values, second.values) == ([b"a"], [b"a", b"b"])


async def test_each_subscription_has_its_own_static_name(kafka):
    """KAFKA_INSTANCE_ID must be unique by member and group: the group's name is part of it."""
    await make_topics(kafka, THINGS)
    static = kafka.model_copy(update={"kafka_instance_id": "pod-0"})
    async with member(static, Taken(), group="one") as one, member(static, Taken(), group="two") as two:
        names = [joined.consumer._group_instance_id for joined in (one, two)]
    async with member(kafka, Taken()) as dynamic:
        assert dynamic.consumer._group_instance_id is None

    assert names == ["pod-0-one", "pod-0-two"]


async def test_two_of_one_static_name_lose_nothing_and_are_noticed(kafka):
    """Each takes the other's place, for ever: both are alive and ready, all is handled twice, and refused commits count it."""
    await make_topics(kafka, THINGS)
    static = kafka.model_copy(update={"kafka_instance_id": "pod-0"})
    failures = metrics.commit_failures.labels(THINGS.named(kafka.topic_prefix))
    first, second = Taken(), Taken()
    sent = []

    async with member(static, first) as one:
        async with member(static, second) as twin:

            async def refused_again_and_again():
                assert [joined.consumer.ended_task for joined in (one, twin)] == [None, None]
                sent.append(b"%d" % len(sent))
                await put(kafka, THINGS, sent[-1])
                return failures._value.get() >= 3

            await until(refused_again_and_again, "commits are refused")
            assert await twin.liveness.fault() is None
        await until(lambda: set(first.values + second.values) == set(sent), "every record is handled")

        async def all_is_committed():
            return await committed(kafka, THINGS) == {0: len(sent)}

        await until(all_is_committed, "who is alone again commits to the end")


async def test_every_group_of_a_process_joins_at_once(kafka, monkeypatch):
    """Six groups need the time of one: each has begun to join before the first has its partitions."""
    await make_topics(kafka, THINGS)
    joining = {"now": 0, "most": 0}
    start = AIOKafkaConsumer.start

    async def counted(consumer):
        joining["now"] += 1
        joining["most"] = max(joining["most"], joining["now"])
        await start(consumer)
        joining["now"] -= 1

    monkeypatch.setattr(AIOKafkaConsumer, "start", counted)
    subscriptions = [Subscription(THINGS, f"group-{n}", Taken(), kafka, End()) for n in range(6)]
    consuming = broker.create(kafka, client_id="tests", subscriptions=subscriptions)
    await broker.start(consuming)
    await consuming.stop()

    assert joining["most"] == 6


async def test_a_poll_that_fails_across_a_rebalance_goes_back_to_what_is_committed(kafka, monkeypatch):
    """What was taken before it, and never committed, comes again: the position of then is nobody's any more."""
    await make_topics(kafka, THINGS, partitions=1)
    await put(kafka, THINGS, b"one", b"two")

    def joining():
        return RewindingConsumer(
            THINGS.named(kafka.topic_prefix),
            **connection.for_aiokafka(kafka),
            group_id=kafka.topic_prefix + "group",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    fetched = Fetcher.fetched_records

    async def breaks(self, *arguments, **options):
        if self is not first._fetcher:
            return await fetched(self, *arguments, **options)
        before = first._subscription.subscription.assignment
        async with joining():
            await until(lambda: first._subscription.subscription.assignment is not before, "the group was dealt anew")
        await until(lambda: not first._subscription.reassignment_in_progress and first.assignment(), "all of it is ours again")
        monkeypatch.undo()
        raise CorruptRecordException

    async with joining() as first:
        taken = await first.getmany()
        monkeypatch.setattr(Fetcher, "fetched_records", breaks)
        with pytest.raises(CorruptRecordException):
            await first.getmany()
        again = await first.getmany()

    assert [[r.value for r in records] for records in taken.values()] == [[b"one", b"two"]]
    assert again.keys() == taken.keys()
    assert [r.value for records in again.values() for r in records] == [b"one", b"two"]


async def test_what_was_taken_before_a_rebalance_comes_once_after_it(kafka, monkeypatch):
    """A poll that still waits for what belongs to its records lets go of them: whoever has the partition reads them."""
    monkeypatch.setattr(rewinding, "JOINING_MS", 60_000)
    await make_topics(kafka, THINGS, partitions=2)
    at_hand, go_on, batches = asyncio.Event(), asyncio.Event(), []

    async def handle(records):
        batches.append([record.value for record in records])
        at_hand.set()
        await go_on.wait()

    async with member(kafka, handle, client_id="a") as first:
        await put(kafka, THINGS, b"one")
        await at_hand.wait()
        await put(kafka, THINGS, b"two")
        await until(lambda: first.consumer._fetcher._records, "the next is fetched")
        go_on.set()
        await until(lambda: not first.consumer._fetcher._records, "it is taken, and waits for what belongs to it")
        async with member(kafka, Taken(), client_id="b"):
            await until(lambda: len(batches) == 2, "it is handled")

    assert batches == [[b"one"], [b"two"]]


async def test_a_rebalance_that_begins_while_more_is_asked_for_leaves_what_was_taken_alone(kafka, monkeypatch):
    """No handler has it yet, so that the rebalance waits for nobody: another member may be at work on it by now."""
    await make_topics(kafka, THINGS)
    at_hand, go_on, may_join = asyncio.Event(), asyncio.Event(), asyncio.Event()
    batches, polls = [], []
    join, fetched = CoordinatorGroupRebalance.perform_group_join, Fetcher.fetched_records

    async def handle(records):
        batches.append([record.value for record in records])
        at_hand.set()
        await go_on.wait()

    async def join_later(rebalance):
        await may_join.wait()
        return await join(rebalance)

    async def rebalanced_meanwhile(fetcher, partitions, seconds=0, max_records=None):
        asks_for_more = seconds == rewinding.JOINING_MS / 1000
        polls.append(asks_for_more)
        if not asks_for_more or may_join.is_set():
            return await fetched(fetcher, partitions, seconds, max_records=max_records)
        before = joined.subscription.in_flight.revocations
        joined.consumer._coordinator.request_rejoin()
        await until(lambda: joined.subscription.in_flight.revocations > before, "the rebalance has nobody to wait for")
        return {}

    async with member(kafka, handle) as joined:
        await put(kafka, THINGS, b"one")
        await at_hand.wait()
        await put(kafka, THINGS, b"two")
        await until(lambda: joined.consumer._fetcher._records, "the next is fetched")
        monkeypatch.setattr(CoordinatorGroupRebalance, "perform_group_join", join_later)
        monkeypatch.setattr(Fetcher, "fetched_records", rebalanced_meanwhile)
        go_on.set()
        await until(lambda: len(batches) > 1 or (True in polls and not polls[-1]), "it is handled, or polled for again")
        before_the_join = list(batches)
        may_join.set()
        await until(lambda: len(batches) == 2, "it is handled by whoever has the partition now")

    assert before_the_join == [[b"one"]]
    assert batches == [[b"one"], [b"two"]]


@pytest.mark.parametrize("error", [NotCoordinatorForGroupError, GroupLoadInProgressError, GroupCoordinatorNotAvailableError])
async def test_a_coordinator_that_was_just_moved_makes_nobody_begin_anew(kafka, monkeypatch, error):
    """What is committed it cannot tell yet, which is not that nothing was: it is asked again, and nothing comes twice."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"one", b"two")
    first, second = Taken(), Taken()
    async with member(kafka, first):
        await until(lambda: first.values == [b"one", b"two"], "both are handled")
    await put(kafka, THINGS, b"three")
    refused = _refuses_once(monkeypatch, OffsetFetchRequest, OffsetFetchResponse_v3(0, [], error.errno))
    async with member(kafka, second):
        await until(lambda: second.records, "the next one is handled")

    assert refused == [OffsetFetchRequest]
    assert second.values == [b"three"]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (HeartbeatRequest, HeartbeatResponse_v1(0, GroupAuthorizationFailedError.errno)),
        (OffsetFetchRequest, OffsetFetchResponse_v3(0, [], GroupAuthorizationFailedError.errno)),
    ],
    ids=["heartbeat", "committed offsets"],
)
async def test_a_refusal_that_ends_a_task_of_the_membership_is_survived(kafka, monkeypatch, request_, answer):
    """aiokafka begins its heartbeat, and its asking for offsets, only when it joins: it joins anew, and all goes on."""
    monkeypatch.setattr("anyio.sleep", lambda _seconds: asyncio.sleep(0.1))
    await make_topics(kafka, THINGS)
    taken = Taken()
    async with member(kafka, taken) as joined:
        await put(kafka, THINGS, b"one")
        await until(lambda: taken.values == [b"one"], "the first is handled")
        refused = _refuses_once(monkeypatch, request_, answer)
        if request_ is OffsetFetchRequest:
            joined.consumer._coordinator.request_rejoin()
        await until(lambda: joined.subscription.trouble, "it is refused")
        await put(kafka, THINGS, b"two")
        await until(lambda: b"two" in taken.values, "the next is handled", deadline_seconds=20)
        await until(lambda: joined.subscription.trouble is None, "it is well again")

    assert refused == [request_]
    assert taken.values == [b"one", b"two"]


def _refuses_once(monkeypatch, request, answer):
    """A coordinator answers the next request of this kind so."""
    refused = []
    send = AIOKafkaClient.send

    async def sent(client, node_id, asked, **options):
        if isinstance(asked, request) and not refused:
            refused.append(request)
            return answer
        return await send(client, node_id, asked, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", sent)
    return refused
