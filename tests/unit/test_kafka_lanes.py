"""A lane: one batch under way, everything else in the next one, in order, and nothing for whoever gave up."""

import asyncio
import weakref
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaTimeoutError

from shared import errors
from shared.kafka import lanes
from shared.kafka.lanes import Delivery, Lane
from shared.kafka.producer import Producer
from shared.kafka.records import Record
from tests.support.waiting import until


class Batch:
    """A batch of aiokafka's: the first record always fits, the others up to `room` bytes together."""

    def __init__(self, room):
        self.values, self._room = [], room

    def append(self, *, timestamp, key, value, headers):
        if self.values and self._room < len(value):
            return None
        self._room -= len(value)
        self.values.append(value)
        return object()


class Records(list):
    """What a publisher holds; its end can be seen."""


class Client:
    """Keeps each batch under way until the test ends it."""

    client = SimpleNamespace(cluster=SimpleNamespace(partitions_for_topic=lambda topic: {0}))

    def __init__(self, room=100):
        self.sent, self.partitions, self._room = [], [], room

    def create_batch(self):
        return Batch(self._room)

    async def send_batch(self, batch, topic, *, partition):
        self.sent.append((batch.values, asyncio.get_running_loop().create_future()))
        self.partitions.append(partition)
        return self.sent[-1][1]

    async def acknowledge(self, error=None):
        _, under_way = self.sent[-1]
        under_way.set_exception(error) if error else under_way.set_result(None)
        await settle()

    @property
    def batches(self):
        return [values for values, _ in self.sent]


async def settle():
    """Let everything run that can: nothing here waits for the world."""
    for _ in range(10):
        await asyncio.sleep(0)


def put(lane, *values):
    delivery = Delivery(len(values), asyncio.get_running_loop())
    for value in values:
        lane.put(Record("t", b"k", value), delivery)
    return delivery


async def test_what_comes_while_a_batch_is_under_way_goes_together_in_the_next():
    client = Client()
    lane = Lane(client, "t", [0])
    first = put(lane, b"1")
    await settle()
    others = [put(lane, b"2"), put(lane, b"3", b"4")]
    await settle()
    assert client.batches == [[b"1"]]

    await client.acknowledge()
    assert client.batches == [[b"1"], [b"2", b"3", b"4"]]
    assert (first.done.done(), [other.done.done() for other in others]) == (True, [False, False])
    await client.acknowledge()
    assert [other.done.result() for other in others] == [None, None]


async def test_what_comes_in_one_tick_is_one_batch_and_a_full_one_is_followed_by_another():
    client = Client(room=4)
    lane = Lane(client, "t", [0])
    delivery = put(lane, b"aa", b"bb", b"c", b"a value larger than any batch", b"d")
    for _ in range(4):
        assert not delivery.done.done()
        await settle()
        await client.acknowledge()

    assert client.batches == [[b"aa", b"bb"], [b"c"], [b"a value larger than any batch"], [b"d"]]
    assert delivery.done.result() is None


async def test_an_error_is_told_to_all_of_its_batch_and_to_nobody_else():
    client = Client()
    lane = Lane(client, "t", [0])
    failed = [put(lane, b"1"), put(lane, b"2")]
    await settle()
    after = put(lane, b"3")
    await client.acknowledge(KafkaTimeoutError())
    await client.acknowledge()

    assert [type(delivery.done.result()) for delivery in failed] == [KafkaTimeoutError] * 2
    assert after.done.result() is None


@pytest.mark.parametrize("error", [None, KafkaTimeoutError()], ids=["acknowledged", "failed"])
async def test_who_gave_up_while_its_batch_is_under_way_keeps_no_neighbour_waiting(error):
    """What became of the batch is told to whoever still waits for it, also behind one who does not."""
    client = Client()
    lane = Lane(client, "t", [0])
    gone, kept = put(lane, b"1"), put(lane, b"2")
    await settle()
    gave_up = TimeoutError()
    gone.fail(gave_up)
    await client.acknowledge(error)

    assert (gone.done.result(), kept.done.done()) == (gave_up, True)
    assert kept.done.result() is error


async def test_who_gave_up_leaves_nothing_of_its_own_with_the_batch_that_is_under_way():
    """A broker that stands still holds batches for many seconds, and thousands give up meanwhile."""
    client = Client()
    publisher = Producer(client)

    async def publish():
        records = Records([Record("t", b"k", b"1")])
        with pytest.raises(errors.KafkaAway):
            await publisher.publish(records, deadline_seconds=0.01)
        return weakref.ref(records)

    assert (await publish())() is None
    assert client.batches == [[b"1"]]


async def test_a_delivery_is_done_when_its_last_record_is_acknowledged_and_not_before():
    client = Client(room=1)
    lane, other = Lane(client, "t", [0]), Lane(client, "t", [1])
    delivery = Delivery(2, asyncio.get_running_loop())
    lane.put(Record("t", b"k", b"1"), delivery)
    await settle()
    other.put(Record("t", b"l", b"2"), delivery)
    await settle()
    await client.acknowledge()
    assert not delivery.done.done()
    client.sent[0][1].set_result(None)
    await settle()
    assert delivery.done.result() is None


async def test_what_its_publisher_gave_up_is_never_sent_and_is_freed_at_once():
    client = Client()
    lane = Lane(client, "t", [0])
    put(lane, b"under way")
    await settle()
    for number in range(1_000):
        put(lane, str(number).encode()).done.cancel()
    kept = put(lane, b"kept")
    assert len(lane._waiting) == 1

    await client.acknowledge()
    assert client.batches == [[b"under way"], [b"kept"]]
    await client.acknowledge()
    assert kept.done.result() is None


async def test_with_nobody_left_who_waits_no_batch_is_sent():
    """An empty one would be the broker's to refuse."""
    client = Client()
    lane = Lane(client, "t", [0])
    put(lane, b"1").done.cancel()
    await settle()

    assert client.batches == []


async def test_an_empty_lane_is_waited_for_and_can_be_used_again():
    client = Client()
    lane = Lane(client, "t", [0])
    await lane.emptied()
    put(lane, b"1")
    await settle()
    leaving = asyncio.create_task(lane.emptied())
    await settle()
    assert not leaving.done()
    await client.acknowledge()
    await leaving
    put(lane, b"2")
    await settle()
    assert client.batches == [[b"1"], [b"2"]]


async def test_the_batches_of_a_lane_without_order_go_round_its_partitions_one_at_a_time():
    client = Client()
    lane = Lane(client, "t", range(3))
    for number in range(5):
        put(lane, str(number).encode())
        await settle()
        put(lane, f"{number} too".encode())
        await settle()
        assert len(client.batches) == 2 * number + 1
        await client.acknowledge()
        await client.acknowledge()

    assert client.partitions == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


async def test_a_partition_that_does_not_answer_holds_up_only_what_it_has(monkeypatch):
    monkeypatch.setattr(lanes, "STALLED_SECONDS", 0.001)
    client = Client()
    lane = Lane(client, "t", range(3))
    stalled = put(lane, b"stalled")
    await settle()
    following = []
    for number in range(6):
        following.append(put(lane, str(number).encode()))
        await until(lambda n=number: len(client.batches) == n + 2, "it goes elsewhere")
        await client.acknowledge()

    assert [delivery.done.done() for delivery in (stalled, *following)] == [False] + [True] * 6
    assert client.partitions.count(0) == 1
    client.sent[0][1].set_result(None)
    await settle()
    assert stalled.done.result() is None


async def test_a_lane_is_empty_once_a_batch_that_others_have_overtaken_is_acknowledged(monkeypatch):
    """Whoever leaves before lets go of a webhook that Kafka may just be taking."""
    monkeypatch.setattr(lanes, "STALLED_SECONDS", 0.001)
    client = Client()
    lane = Lane(client, "t", range(2))
    put(lane, b"overtaken")
    await settle()
    put(lane, b"overtakes")
    await until(lambda: len(client.batches) == 2, "it goes elsewhere")
    await client.acknowledge()
    leaving = asyncio.create_task(lane.emptied())
    await settle()
    assert not leaving.done()
    client.sent[0][1].set_result(None)
    await leaving


async def test_with_every_partition_stalled_nothing_is_sent_until_one_answers(monkeypatch):
    monkeypatch.setattr(lanes, "STALLED_SECONDS", 0.001)
    client = Client()
    lane = Lane(client, "t", range(2))
    for number in range(2):
        put(lane, str(number).encode())
        await until(lambda n=number: len(client.batches) == n + 1, "it goes elsewhere")
    waiting = put(lane, b"waiting")
    assert client.batches == [[b"0"], [b"1"]]
    client.sent[0][1].set_result(None)
    await until(lambda: len(client.batches) == 3, "it goes where there is room")
    await client.acknowledge()
    assert waiting.done.result() is None
    assert client.partitions == [0, 1, 0]


@pytest.mark.parametrize(("partitions", "gathered"), [(range(2), True), (range(1), False)])
async def test_a_busy_lane_without_order_waits_a_moment_for_as_many_as_before(monkeypatch, partitions, gathered):
    """Publishers that wait for their answers come again together; where order is asked for nobody would come."""
    monkeypatch.setattr(lanes, "GATHERING_SECONDS", 0.02)
    client = Client()
    lane = Lane(client, "t", partitions)
    put(lane, *[b"1"] * 10)
    await settle()
    put(lane, b"2")
    await client.acknowledge()
    put(lane, b"3")
    await until(lambda: len(client.batches) == 2, "the moment is over")

    assert client.batches[1] == ([b"2", b"3"] if gathered else [b"2"])


async def test_a_lane_that_is_not_busy_waits_for_nobody(monkeypatch):
    """Fewer than before, of the few that there are."""
    monkeypatch.setattr(lanes, "GATHERING_SECONDS", 60)
    client = Client()
    lane = Lane(client, "t", range(2))
    put(lane, b"1", b"2", b"3")
    await settle()
    put(lane, b"4")
    await client.acknowledge()

    assert client.batches == [[b"1", b"2", b"3"], [b"4"]]


async def test_as_many_as_before_wait_for_nobody(monkeypatch):
    monkeypatch.setattr(lanes, "GATHERING_SECONDS", 60)
    client = Client()
    lane = Lane(client, "t", range(2))
    put(lane, *[b"1"] * 10)
    await settle()
    put(lane, *[b"2"] * 10)
    await client.acknowledge()

    assert [len(batch) for batch in client.batches] == [10, 10]
