"""Publishes the door's records to Kafka, which may not be reachable yet.

Enters: records. Leaves: acknowledged records, or KafkaAway. The door opens before Kafka is reached and answers 503 meanwhile:
Stripe sends a refused event again for three days, and a browser can go on with its checkout.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from shared import errors, metrics, settings
from shared.kafka import producer
from shared.kafka.producer import Producer
from shared.kafka.records import Record

CLIENT_ID = "culturebridge-ingress"
# How much may wait for acknowledgements while Kafka stalls: a thousand webhooks a second for the 3 s that the loss of a broker
# costs. Beyond that the answer is 503 at once, since memory and waiting connections are limited.
WAITING_RECORDS_MAX = 3_584
WAITING_BYTES_MAX = 33_554_432


class Publisher:
    """Publishes to one topic once Kafka was reached; use it inside `reaching`."""

    def __init__(self, kafka: settings.Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: Producer | None = None
        self._holding: asyncio.Task[None] | None = None
        self._reached = asyncio.Event()
        self._waiting_records = 0
        self._waiting_bytes = 0
        metrics.kafka_waiting_bytes.set_function(lambda: self._waiting_bytes)

    @asynccontextmanager
    async def reaching(self) -> AsyncIterator[None]:
        """Connect to Kafka in the background for as long as the block lasts; what is under way is delivered at its end.

        Raises at the end of the block what ended the background task before; from then on nothing is published, and `fault`
        says so.
        """
        stopping = asyncio.Event()
        self._holding = asyncio.create_task(self._hold(stopping))
        try:
            yield
        finally:
            stopping.set()
            with suppress(errors.Stopping):
                await self._holding

    async def publish(self, records: Sequence[Record], *, deadline_seconds: float) -> None:
        """Return once Kafka acknowledged every record; raises errors.KafkaAway within the deadline otherwise."""
        if self._producer is None:
            raise errors.KafkaAway("Kafka was not reached yet")
        bytes_sum = sum(len(record.value or b"") for record in records)
        if self._waiting_records >= WAITING_RECORDS_MAX or self._waiting_bytes + bytes_sum > WAITING_BYTES_MAX:
            raise errors.KafkaAway("too much waits for Kafka already")
        self._waiting_records += len(records)
        self._waiting_bytes += bytes_sum
        try:
            await self._producer.publish(records, deadline_seconds=deadline_seconds)
        finally:
            self._waiting_records -= len(records)
            self._waiting_bytes -= bytes_sum

    async def reached(self, *, seconds_max: float) -> None:
        """Return when Kafka was reached, or after so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), seconds_max)

    @property
    def fault(self) -> str | None:
        """Why nothing can be published until the process restarts, however well Kafka is; None while it can."""
        if self._holding is not None and self._holding.done():
            return "the task that reaches for Kafka ended"
        is_dead = self._producer is not None and self._producer.is_dead
        return "the producer's sender task ended" if is_dead else None

    async def trouble(self) -> Sequence[str]:
        """Return why no webhook can be taken now, for readiness; empty when all is well."""
        if self.fault is not None:
            return [self.fault]
        if self._producer is None:
            return ["Kafka was not reached yet"]
        return [] if await self._producer.answers(self._topic) else [f"Kafka does not answer for {self._topic}"]

    async def _hold(self, stopping: asyncio.Event) -> None:
        # Stripe delivers in any order and more than once, and the consumer needs no order: any partition may take an event.
        async with producer.opened(
            self._kafka, client_id=CLIENT_ID, warm=[self._topic], unordered=[self._topic], stopping=stopping
        ) as opened:
            self._producer = opened
            self._reached.set()
            await stopping.wait()
