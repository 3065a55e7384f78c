"""Leaves records in Kafka until they are due: the position is set back to the first of them, and its partition is paused.

The consumer does not sleep: what is due in other partitions is handled meanwhile, a rebalance or a stop has nothing to wait
for, and a crash loses nothing, since deferred records were never committed. Facts about aiokafka's pause stand in
docs/kafka.md.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition

from shared import clock
from shared.kafka import retry
from shared.kafka.records import Incoming


class Deferral:
    """The paused partitions of one step's subscription; each is resumed when its first record is due."""

    def __init__(self, delay_seconds: int) -> None:
        self._delay_seconds = delay_seconds
        self._timers: dict[TopicPartition, asyncio.TimerHandle] = {}

    def take_due(self, consumer: Any, records: Sequence[Incoming]) -> list[Incoming]:
        """Return the records that are due, and defer the others; call it while the partitions are certainly ours."""
        now_ms = clock.now().timestamp() * retry.MS_PER_SECOND
        cut = retry.split(records, now_ms=int(now_ms), delay_seconds=self._delay_seconds)
        for (topic, number), waiting in cut.waiting.items():
            partition = TopicPartition(topic, number)
            consumer.seek(partition, waiting.offset)
            consumer.pause(partition)
            if earlier := self._timers.pop(partition, None):
                earlier.cancel()
            seconds = (waiting.due_ms - now_ms) / retry.MS_PER_SECOND
            self._timers[partition] = asyncio.get_running_loop().call_later(seconds, self._resume, consumer, partition)
        return cut.due

    def resume_all(self, consumer: Any) -> None:
        """Resume every partition now: a batch failed, and its records come again from where it began."""
        for partition in list(self._timers):
            self._resume(consumer, partition)

    def _resume(self, consumer: Any, partition: TopicPartition) -> None:
        self._timers.pop(partition).cancel()
        # A rebalance may have given the partition away, and the pause is forgotten with it.
        if partition in consumer.assignment():
            consumer.resume(partition)
