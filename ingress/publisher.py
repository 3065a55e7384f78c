"""The door's way to Kafka, which may not be there yet.

What enters: records. What leaves: acknowledged records, or KafkaAway. The door opens before Kafka is reached and answers 503
meanwhile: Stripe keeps what we do not take for three days, and a browser can go on with its checkout.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from shared import errors, settings
from shared.kafka import producer
from shared.kafka.producer import Producer
from shared.kafka.records import Record

CLIENT_ID = "culturebridge-ingress"


class Publisher:
    """Publishes to one topic once Kafka was reached; use it inside `reaching`."""

    def __init__(self, kafka: settings.Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: Producer | None = None

    @asynccontextmanager
    async def reaching(self) -> AsyncIterator[None]:
        """Reach for Kafka in the background as long as the block lasts; what is under way is delivered at its end."""
        stopping = asyncio.Event()
        holding = asyncio.create_task(self._hold(stopping))
        try:
            yield
        finally:
            stopping.set()
            with suppress(asyncio.CancelledError):
                await holding

    async def publish(self, records: Sequence[Record], *, deadline_seconds: float) -> None:
        """Return once Kafka acknowledged every record; raises errors.KafkaAway within the deadline otherwise."""
        if self._producer is None:
            raise errors.KafkaAway("Kafka was not reached yet")
        await self._producer.publish(records, deadline_seconds=deadline_seconds)

    async def trouble(self) -> Sequence[str]:
        """Return why no webhook can be taken now, for readiness; nothing when all is well."""
        if self._producer is None:
            return ["Kafka was not reached yet"]
        return [] if await self._producer.answers(self._topic) else [f"Kafka does not answer for {self._topic}"]

    async def _hold(self, stopping: asyncio.Event) -> None:
        # Stripe sends in any order and twice, and the consumer asks for none: any partition may take an event.
        async with producer.opened(
            self._kafka, client_id=CLIENT_ID, warm=[self._topic], unordered=[self._topic], stopping=stopping
        ) as opened:
            self._producer = opened
            await stopping.wait()
