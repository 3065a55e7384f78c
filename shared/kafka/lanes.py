"""One partition's way to the broker: what comes while a batch is under way goes together in the next.

What enters: records, each with the delivery that its publisher waits for. What leaves: one record batch at a time in order,
and deliveries that end when their last record is acknowledged, or with the first error. One batch for many costs a half of
what a record by itself does, and the busier the broker, the larger they grow, so that nobody waits for a timer. Next in the
walk: producer.py.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable
from typing import Protocol

from aiokafka.errors import KafkaError

from shared.kafka.records import Record


class Batch(Protocol):
    """A record batch that is being filled; aiokafka's BatchBuilder."""

    def append(self, *, timestamp: int | None, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> object | None:
        """Add a record, or return None when the batch is full; the first record of a batch always fits."""


class Sends(Protocol):
    """What a lane needs of aiokafka's producer."""

    def create_batch(self) -> Batch:
        """Begin a batch."""

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[object]:
        """Hand a batch over, and return what ends with its acknowledgement."""


class Delivery:
    """What a publisher waits for: `done` ends when each of `count` records is acknowledged, or raises what one of them met.

    Whoever gives up cancels `done`: records of it that are not under way by then never will be.
    """

    __slots__ = ("_missing", "done")

    def __init__(self, count: int) -> None:
        self._missing = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def acknowledge(self) -> None:
        """One more record is in the log."""
        self._missing -= 1
        if not self._missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """One record is not in the log, or nobody knows."""
        if not self.done.done():
            self.done.set_exception(error)


class Lane:
    """The queue of one partition."""

    def __init__(self, client: Sends, topic: str, partition: int) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._waiting: deque[tuple[Record, Delivery]] = deque()
        self._running: asyncio.Task[None] | None = None

    def put(self, record: Record, delivery: Delivery) -> None:
        """Queue a record. It is on its way at the end of this tick of the loop, or after the batch that is under way."""
        self._forget_abandoned()
        self._waiting.append((record, delivery))
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def emptied(self) -> None:
        """Return when nothing is under way."""
        if self._running is not None:
            await asyncio.wait((self._running,))

    def _forget_abandoned(self) -> None:
        """Free what nobody waits for any more: while Kafka is away nothing else would."""
        while self._waiting and self._waiting[0][1].done.done():
            self._waiting.popleft()

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, deliveries = self._batch()
                if not deliveries:
                    continue
                try:
                    await (await self._client.send_batch(batch, self._topic, partition=self._partition))
                except KafkaError as error:
                    # A copy for each: one exception that many raise would grow a traceback for each of them.
                    for delivery in deliveries:
                        delivery.fail(copy.copy(error))
                else:
                    for delivery in deliveries:
                        delivery.acknowledge()
        finally:
            self._running = None

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
