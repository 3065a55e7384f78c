"""Sends records to the broker in batches: records that come while a batch is under way go together in the next one.

Enters: records, each with the Delivery that its publisher waits for. Leaves: one record batch at a time, and deliveries that
are done when their last record is acknowledged, or at the first error. A batch costs the same for one record as for a hundred,
so batches grow with the load on the broker; only a busy lane that keeps no order waits two milliseconds, to gather as many
records as the last time. Next: producer.py.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Protocol

from aiokafka.errors import KafkaError

from shared.kafka.records import Record

# A batch that takes longer no longer holds up its lane, if there is another partition: with all replicas healthy an
# acknowledgement takes milliseconds, and from the partitions of a dead leader seconds.
STALLED_SECONDS = 0.1
# Without this wait, publishers that each wait for their acknowledgement split into two halves that alternate: twice as many
# batches of half the size, for the broker and for us.
GATHERING_SECONDS = 0.002
GATHERING_RECORDS = 8  # only after a batch that was larger than this


class Batch(Protocol):
    """A record batch that is being filled; aiokafka's BatchBuilder."""

    def append(self, *, timestamp: int | None, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> object | None:
        """Add a record, or return None when the batch is full; the first record of a batch always fits."""


class Sends(Protocol):
    """What a lane needs of aiokafka's producer."""

    def create_batch(self) -> Batch:
        """Begin a batch."""

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[object]:
        """Send a batch, and return what is done with its acknowledgement."""


class Delivery:
    """What a publisher waits for: `done` is None once all `count` records are acknowledged, else the first error.

    A publisher that gives up cancels `done`: its records that are not under way by then are never sent. The error is a value
    and is not raised here: a batch that is under way to a stalled broker keeps its deliveries alive, and a raised exception
    would keep alive whatever its publisher held.
    """

    __slots__ = ("_missing", "done")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self._missing = count
        self.done: asyncio.Future[KafkaError | TimeoutError | None] = loop.create_future()

    def acknowledge(self) -> None:
        """Count one record that is acknowledged."""
        self._missing -= 1
        if not self._missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: KafkaError | TimeoutError) -> None:
        """End the delivery with the error of one record, which is not in the log, or perhaps is."""
        if not self.done.done():
            self.done.set_result(error)


class Lane:
    """A queue whose batches go to `partitions`: to one, which keeps the order, or to any of several, so that none stops it."""

    def __init__(self, client: Sends, topic: str, partitions: Sequence[int]) -> None:
        self._client = client
        self._topic = topic
        self._partitions = deque(partitions)
        # Publishers that need order publish whole batches: there is nothing to gather.
        self._gathers = len(partitions) > 1
        self._last_records = 0
        self._waiting: deque[tuple[Record, Delivery]] = deque()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._running: asyncio.Task[None] | None = None

    def put(self, record: Record, delivery: Delivery) -> None:
        """Queue a record; it is sent at the end of this turn of the event loop, or after the batch that is under way."""
        self._forget_abandoned()
        self._waiting.append((record, delivery))
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def emptied(self) -> None:
        """Return when nothing is under way."""
        while under_way := [task for task in (self._running, *self._under_way.values()) if task is not None]:
            await asyncio.wait(under_way)

    def _forget_abandoned(self) -> None:
        """Drop the first records while no publisher waits for them any more: while Kafka is away nothing else drops them."""
        while self._waiting and self._waiting[0][1].done.done():
            self._waiting.popleft()

    async def _run(self) -> None:
        try:
            while self._waiting:
                partition = self._free_partition()
                if partition is None:
                    await asyncio.wait(self._under_way.values(), return_when=asyncio.FIRST_COMPLETED)
                    continue
                fewer_than_last = len(self._waiting) < self._last_records
                if self._gathers and fewer_than_last and self._last_records > GATHERING_RECORDS:
                    await asyncio.sleep(GATHERING_SECONDS)
                batch, deliveries = self._batch()
                self._last_records = len(deliveries)
                if deliveries:
                    sending = asyncio.create_task(self._send(batch, deliveries, partition))
                    self._under_way[partition] = sending
                    await asyncio.wait((sending,), timeout=STALLED_SECONDS)
        finally:
            self._running = None

    def _free_partition(self) -> int | None:
        """Return the next partition in turn that has no batch under way."""
        for _ in range(len(self._partitions)):
            self._partitions.rotate(-1)
            if self._partitions[-1] not in self._under_way:
                return self._partitions[-1]
        return None

    def _batch(self) -> tuple[Batch, list[Delivery]]:
        batch = self._client.create_batch()
        deliveries: list[Delivery] = []
        while self._waiting:
            record, delivery = self._waiting[0]
            if not delivery.done.done():
                if batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is None:
                    break
                deliveries.append(delivery)
            self._waiting.popleft()
        return batch, deliveries

    async def _send(self, batch: Batch, deliveries: Sequence[Delivery], partition: int) -> None:
        try:
            await (await self._client.send_batch(batch, self._topic, partition=partition))
        except KafkaError as error:
            for delivery in deliveries:
                delivery.fail(error)
        else:
            for delivery in deliveries:
                delivery.acknowledge()
        finally:
            del self._under_way[partition]
