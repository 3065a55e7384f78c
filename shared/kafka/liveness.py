"""Checks that a consumer makes progress. A ping is not enough: aiokafka's tasks can die while the cluster still answers.

Alive = its tasks run and, while the cluster answers, no batch is stuck and every assigned partition was polled lately, or has
fetched records that wait for their turn. A consumer whose cluster is away waits, and a restart would not help.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shared import clock, logs, metrics
from shared.kafka.rewinding import RewindingConsumer
from shared.kafka.subscription import Subscription

log = logs.get(__name__)

POLL_AGE_SECONDS_MAX = 60.0
BATCH_SECONDS_MAX = 120.0
CLUSTER_ANSWERS_WITHIN_SECONDS = 2.0
RECOVERY_SECONDS = 30.0  # what an outage held up may need this long to go on after it
LAG_EVERY_SECONDS = 5.0
MS_PER_SECOND = 1000


class Liveness:
    """Whether one subscription makes progress, by what was seen of it since the process began."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._cluster_away_at: float | None = None
        self._polls_seen: dict[TopicPartition, tuple[int | None, float]] = {}  # of each the poll's time, and ours (monotonic)

    async def fault(self) -> str | None:
        """Return why the subscription is dead, or None while it lives."""
        subscription, consumer = self._subscription, self._subscription.consumer
        if consumer is None:
            return None  # still waiting for Kafka at start; readiness says so
        ended = "the consume loop ended" if subscription.has_ended else consumer.ended_task
        if ended is not None:
            return f"{subscription.topic}: {ended}"
        self._record_polls(consumer)
        suspicion = self._suspicion(consumer)
        if suspicion is None:
            return None
        # A commit waits for a whole outage inside its batch, and so does every poll.
        now = clock.monotonic()
        if not await _cluster_answers(consumer):
            self._cluster_away_at = now
            return None
        away_at = self._cluster_away_at
        if away_at is not None and now - away_at < RECOVERY_SECONDS:
            return None
        return f"{subscription.topic}: {suspicion}"

    def _suspicion(self, consumer: RewindingConsumer) -> str | None:
        busy = self._subscription.busy_since
        if busy is not None:
            stuck = clock.monotonic() - busy > BATCH_SECONDS_MAX
            return f"a batch takes longer than {BATCH_SECONDS_MAX:.0f} s" if stuck else None
        if self._subscription.trouble is None and self._is_stale(consumer):
            return f"not polled for {POLL_AGE_SECONDS_MAX:.0f} s"
        return None

    def _record_polls(self, consumer: RewindingConsumer) -> None:
        """Record for each partition when its last poll was seen, by the monotonic clock.

        While fetched records of a partition wait to be handled, for minutes perhaps, nothing more is fetched for it: that is no
        fault.
        """
        for partition in consumer.assignment():
            polled_ms = consumer.last_poll_timestamp(partition)
            seen_ms, _ = self._polls_seen.get(partition, (None, 0.0))
            if polled_ms != seen_ms or partition in consumer.waiting:
                self._polls_seen[partition] = (polled_ms, clock.monotonic())

    def _is_stale(self, consumer: RewindingConsumer) -> bool:
        seen = [self._polls_seen.get(partition, (None, 0.0)) for partition in consumer.assignment()]
        ages = [clock.monotonic() - seen_at for polled_ms, seen_at in seen if polled_ms]
        return bool(ages) and max(ages) > POLL_AGE_SECONDS_MAX


def has_assignment(subscription: Subscription) -> bool:
    """Whether the group has given this subscription its partitions (none is an answer too, once it has joined)."""
    consumer = subscription.consumer
    return consumer is not None and consumer.has_joined


async def watch_lag(subscriptions: Sequence[Subscription]) -> None:
    """Keep the gauges of lag and of the oldest unprocessed record up to date, until cancelled."""
    while True:
        for subscription in subscriptions:
            try:
                async with asyncio.timeout(CLUSTER_ANSWERS_WITHIN_SECONDS):
                    await _measure(subscription)
            except (KafkaError, TimeoutError):
                continue
            except Exception:
                # Nobody awaits this task: if it ended, its gauges would stand still, and no alert or log line would show it.
                log.exception("kafka_lag.not_measured", topic=subscription.topic)
        await asyncio.sleep(LAG_EVERY_SECONDS)


async def _measure(subscription: Subscription) -> None:
    consumer = subscription.consumer
    if consumer is None:
        return
    # First, since it needs no answer of Kafka: below, a busy process or a slow Kafka may run out of time.
    oldest_ms = subscription.oldest_timestamp_ms
    age = clock.now().timestamp() - oldest_ms / MS_PER_SECOND if oldest_ms is not None else 0.0
    metrics.oldest_unprocessed_seconds.labels(subscription.topic).set(max(age, 0.0))
    metrics.lag_records.labels(subscription.topic).set(await _lag(consumer))


async def _lag(consumer: RewindingConsumer) -> int:
    """Return how many records of its partitions are not committed, by Kafka's last answer to a fetch of each."""
    lag = 0
    for partition in consumer.assignment():
        committed = await consumer.committed(partition)
        if committed is None:
            # The group reads from the first record that is there: those before it expired, and do not wait.
            committed = (await consumer.beginning_offsets([partition]))[partition]
        if partition in consumer.assignment():  # unless a rebalance took it meanwhile
            lag += max((consumer.highwater(partition) or 0) - committed, 0)
    return lag


async def _cluster_answers(consumer: RewindingConsumer) -> bool:
    with suppress(KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(CLUSTER_ANSWERS_WITHIN_SECONDS):
            await consumer.topics()
            return True
    return False
