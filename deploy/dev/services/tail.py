"""Reads topics without joining a group or committing offsets, from now on, so that it disturbs no consumer.

Enters: a cluster and topics. Leaves: records as they arrive, with the moment they were seen.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from shared import clock, settings
from shared.kafka import connection

Json = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One record whose value is a JSON object; `seen_at` is of `clock.monotonic`."""

    topic: str
    partition: int
    offset: int
    value: Json
    seen_at: float

    @property
    def place(self) -> str:
        """Where it lies: topic, partition, offset."""
        return f"{self.topic} {self.partition}:{self.offset}"


class Tail:
    """What has arrived since `opened`."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._more = asyncio.Condition()

    async def first(self, topic: str, fits: Callable[[Json], bool]) -> Record:
        """Return the first record of the topic that fits; waits for it as long as the caller lets it."""
        looked_at = 0
        async with self._more:
            while True:
                for record in self._records[looked_at:]:
                    if record.topic == topic and fits(record.value):
                        return record
                looked_at = len(self._records)
                await self._more.wait()

    async def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Take in what arrives, until cancelled."""
        while True:
            arrived = await consumer.getmany(timeout_ms=1000)
            seen_at = clock.monotonic()
            async with self._more:
                for partition, messages in arrived.items():
                    self._records += [
                        Record(partition.topic, partition.partition, message.offset, value, seen_at)
                        for message in messages
                        if (value := _object(message.value)) is not None
                    ]
                self._more.notify_all()


@contextlib.asynccontextmanager
async def opened(kafka: settings.Kafka, *topics: str) -> AsyncIterator[Tail]:
    """Follow these topics inside the block; every record written after it began is seen.

    Raises aiokafka.errors.KafkaError when Kafka does not answer.
    """
    tail = Tail()
    async with AIOKafkaConsumer(*topics, **connection.for_aiokafka(kafka), group_id=None) as consumer:
        await consumer.seek_to_end()
        following = asyncio.create_task(tail.follow(consumer))
        try:
            yield tail
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _object(value: bytes | None) -> Json | None:
    """Return the JSON object of a record, or None: a shared topic may hold anything."""
    try:
        decoded = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return decoded if isinstance(decoded, dict) else None
