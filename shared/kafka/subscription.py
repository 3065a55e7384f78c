"""One topic read by one group: each batch handled and committed under a lock that a rebalance waits for, or rewound.

Enters: what FastStream polled. Leaves: a batch whose handler returned and whose offsets are committed; any exception rewinds it
after a pause, and a batch whose partitions were given away meanwhile is neither handled nor committed nor rewound. Next:
batch.py, its handler.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from faststream.kafka.annotations import KafkaMessage
from faststream.message import AckStatus

from shared import clock, ending, logs, metrics, settings
from shared.db.error_names import error_name
from shared.kafka.backlog import Backlog
from shared.kafka.backoff import Backoff
from shared.kafka.batch import TooManyCulprits
from shared.kafka.deferral import Deferral
from shared.kafka.records import Incoming, incoming
from shared.kafka.rewinding import RewindingConsumer
from shared.topics import Topic

log = logs.get(__name__)

BATCH_RECORDS_MAX = 4_000  # only a backlog fills a batch; batch.py divides it
IN_FLIGHT_WAIT_SECONDS = 25.0  # below the rebalance timeout

Handler = Callable[[Sequence[Incoming]], Awaitable[None]]


class InFlight(ConsumerRebalanceListener):
    """Makes a rebalance wait until the batch at hand is committed, so that no other member starts on its records."""

    def __init__(self, assigned: Callable[[], None]) -> None:
        self.lock = asyncio.Lock()
        self.revocations = 0
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's signature
        """Wait for the batch, but not longer than the group waits for us."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IN_FLIGHT_WAIT_SECONDS), self.lock:
                pass
        self.revocations += 1

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:  # noqa: ARG002 - same
        """Notify the subscription; there is nothing to prepare, since all state is in the database."""
        self._assigned()


class Subscription:
    """One topic read by one group with one handler; liveness and readiness ask it how it fares."""

    def __init__(
        self,
        topic: Topic,
        group: str,
        handle: Handler,
        kafka: settings.Kafka,
        end: ending.End,
        *,
        records_max: int = BATCH_RECORDS_MAX,
    ) -> None:
        """`records_max` bounds a batch; of a topic with a delay the handler gets what is due, and the rest stays in Kafka.

        `end` is the process's: no pause outlasts it, and it gets the fault after which no batch may be handled.
        """
        self.topic = topic.named(kafka.topic_prefix)
        metrics.records_passed_over.labels(self.topic)  # is 0 from the start, so that the first increase can be seen
        self.group = kafka.topic_prefix + group
        self.busy_since: float | None = None
        self.subscriber: Any = None
        self.instance_id = f"{kafka.kafka_instance_id}-{group}" if kafka.kafka_instance_id else None
        self.records_max = records_max
        self.in_flight = InFlight(self._reassigned)
        self._handle = handle
        self._deferral = Deferral(topic.delay_seconds) if topic.delay_seconds else None
        self._end = end
        self._backoff = Backoff()
        self._backlog = Backlog(self._holds_more)
        self._trouble: str | None = None

    @property
    def consumer(self) -> RewindingConsumer | None:
        """The consumer that reads for it; None until Kafka has answered."""
        found: RewindingConsumer | None = None if self.subscriber is None else self.subscriber.consumer
        return found

    @property
    def has_ended(self) -> bool:
        """Whether FastStream's loop of polls has ended, so that nothing more will be handled."""
        loop = None if self.subscriber is None else next(iter(self.subscriber.tasks), None)
        return loop is not None and bool(loop.done())

    @property
    def trouble(self) -> str | None:
        """The error of the batch at hand, or else of the last poll; None while all goes well."""
        return self._trouble or (None if self.consumer is None else self.consumer.poll_error)

    @property
    def oldest_timestamp_ms(self) -> int | None:
        """The timestamp of the oldest record that is not handled; None when all are, or when none can be fetched."""
        return self._backlog.oldest_timestamp_ms()

    async def on_batch(self, message: KafkaMessage) -> None:
        """Handle one batch and commit its offsets; on an error pause, then raise, which rewinds it."""
        raw: Any = message.raw_message
        records = [incoming(record) for record in raw]
        taken = self.in_flight.revocations
        try:
            async with self.in_flight.lock:
                if self._given_away(message, taken):
                    return
                records = self._due(message, records)
                if not records:
                    message.committed = AckStatus.NACKED  # nothing is done: there is nothing to commit or to rewind
                    return
                seconds = await self._take(message, records)
        except TooManyCulprits as fatal:
            await self._end_the_process(fatal)
            raise
        except Exception as error:
            # Outside the lock, so that a rebalance does not wait for a pause.
            await self._pause(error, len(records))
            if self._given_away(message, taken):
                return
            if self._deferral is not None:
                self._deferral.resume_all(message.consumer)
            raise
        self._recovered(records, seconds)

    def _due(self, message: KafkaMessage, records: list[Incoming]) -> list[Incoming]:
        """Return what may be handled now; of a topic with a delay the rest stays in Kafka."""
        return records if self._deferral is None else self._deferral.take_due(message.consumer, records)

    async def _take(self, message: KafkaMessage, records: Sequence[Incoming]) -> float:
        """Handle records and commit them, and show liveness since when; return how many seconds it took."""
        self._backlog.take(records)
        began = self.busy_since = clock.monotonic()
        try:
            await self._handle(records)
            await self._commit(message)
        finally:
            self.busy_since = None
        return clock.monotonic() - began

    async def _end_the_process(self, fatal: TooManyCulprits) -> None:
        """Request the end of the process, and hold the batch until then: if it returned, it would be polled again at once."""
        self._end.fail(fatal)
        await self._end.stopping.wait()

    async def _pause(self, error: Exception, records: int) -> None:
        """Report the error of a batch, in the log once for each error in a row, and wait before the batch comes again."""
        metrics.batch_failures.labels(self.topic, type(error).__name__).inc()
        if self._trouble != error_name(error):
            log.warning("batch.rewound", topic=self.topic, records=records, error=error_name(error))
        self._trouble = error_name(error)
        await self._backoff.pause(self._end.stopping)

    async def _commit(self, message: KafkaMessage) -> None:
        try:
            # Here and not by the policy: the lock must cover the commit, and FastStream swallows a commit's errors.
            await message.ack()
        except (CommitFailedError, IllegalStateError):
            # The group gave our partitions to another member; what we did is in the inbox, and is recognised there.
            message.committed = AckStatus.NACKED  # FastStream's policy would try again, and log the same refusal as critical
            metrics.commit_failures.labels(self.topic).inc()
            log.warning("offsets.not_ours_any_more", topic=self.topic, group=self.group)

    def _given_away(self, message: KafkaMessage, taken: int) -> bool:
        """Return whether a rebalance came since the batch was taken; its records are then read again from what is committed.

        The partitions' new owner may be at work on them: this process may neither handle nor commit nor rewind them.
        """
        if self.in_flight.revocations == taken:
            return False
        message.committed = AckStatus.NACKED  # so that FastStream's policy leaves the offsets alone
        log.info("batch.given_away", topic=self.topic, group=self.group)
        return True

    def _holds_more(self, partition: TopicPartition) -> bool:
        return self.consumer is not None and self.consumer.holds_more(partition)

    def _reassigned(self) -> None:
        """Forget the error: its partition may be another member's now; if it is still ours, the next failure reports it."""
        self._trouble = None
        self._backlog.clear()

    def _recovered(self, records: Sequence[Incoming], seconds: float) -> None:
        if self._trouble is not None:
            log.info("batch.taken_after_trouble", topic=self.topic, attempts=self._backoff.failures)
        self._trouble = None
        self._backlog.finish(records)
        self._backoff.reset()
        metrics.records_consumed.labels(self.topic).inc(len(records))
        metrics.batch_seconds.labels(self.topic).observe(seconds)
