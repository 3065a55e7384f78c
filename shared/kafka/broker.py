"""The one factory of brokers and subscriptions: explicit policies, raw bytes, a rewinding consumer, no busy loop.

Enters: a topic, a group and a handler of record batches. Leaves: each batch handled under a lock that a rebalance waits
for, its offsets committed only after the handler returned; any exception rewinds the batch after a pause. Facts about
FastStream 0.7 and aiokafka 0.14 that these settings answer stand in docs/kafka.md.
"""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from faststream.message import AckStatus
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared import clock, errors, logs, metrics, settings
from shared.db.data_errors import error_name
from shared.kafka import connection, passed_over
from shared.kafka.backoff import Backoff
from shared.kafka.batch import TooManyCulprits
from shared.kafka.putting_off import PuttingOff
from shared.kafka.records import Incoming, incoming
from shared.kafka.rewinding import RewindingConsumer
from shared.topics import Topic

log = logs.get(__name__)

BATCH_RECORDS_MAX = 500
# FastStream sleeps this long after an empty poll, deaf to what comes meanwhile; that waiting is rewinding.py's.
BATCH_TIMEOUT_MS = 1
# A broker answers as soon as there is a record; until then this is how often it is asked, by every subscription.
FETCH_WAIT_MS = 500
# Partitions that an operator added are nobody's until we ask again, and producers that were started since write there.
METADATA_AGE_MS_MAX = 20_000
SESSION_TIMEOUT_MS = 12_000  # a dead member's partitions stand still this long; heartbeats share the event loop
HEARTBEAT_INTERVAL_MS = 1_000
REBALANCE_TIMEOUT_MS = 30_000
REQUEST_TIMEOUT_MS = 40_000  # above the rebalance timeout: a join is a request, too, and would be cut off
POLL_INTERVAL_MS_MAX = 300_000
IN_FLIGHT_WAIT_SECONDS = 25.0  # below the rebalance timeout
GRACEFUL_STOP_SECONDS = 8.0  # a commit blocks for a whole outage; the process must end within 10 s

SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}

Handler = Callable[[Sequence[Incoming]], Awaitable[None]]
FASTSTREAM = logging.getLogger("consumer.faststream")


class UnsafeSubscription(errors.PipelineError):
    """A subscription would lose messages: its policy, offset reset or auto-commit is not what this house requires."""


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
        """Tell the subscription; there is nothing to prepare, state lives in the database."""
        self._assigned()


class Subscription:
    """One topic read by one group with one handler; also what liveness and readiness know of it."""

    def __init__(
        self,
        topic: Topic,
        group: str,
        handle: Handler,
        kafka: settings.Kafka,
        stopping: asyncio.Event,
        *,
        records_max: int = BATCH_RECORDS_MAX,
    ) -> None:
        """`records_max` bounds a batch; of a topic with a delay the handler gets what is due, and the rest stays in Kafka."""
        self.topic = topic.named(kafka.topic_prefix)
        self.group = kafka.topic_prefix + group
        self.busy_since: float | None = None
        self.cluster_away_at: float | None = None
        self.head_timestamp_ms: int | None = None
        self.polls_seen: dict[TopicPartition, tuple[int | None, float]] = {}  # of each its own moment, and ours (monotonic)
        self.subscriber: Any = None
        self.fatal: asyncio.Future[BaseException] | None = None
        self._instance_id = f"{kafka.kafka_instance_id}-{group}" if kafka.kafka_instance_id else None
        self._handle = handle
        self._putting_off = PuttingOff(topic.delay_seconds) if topic.delay_seconds else None
        self._records_max = records_max
        self._stopping = stopping
        self._in_flight = InFlight(self._reassigned)
        self._backoff = Backoff()
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
        """What the batch at hand, or else the last poll, failed of; None while all goes well."""
        return self._trouble or (None if self.consumer is None else self.consumer.poll_error)

    def bind(self, broker: KafkaBroker) -> None:
        """Declare this subscription on `broker`; the policies are the point of this module."""
        self.subscriber = broker.subscriber(
            self.topic,
            group_id=self.group,
            group_instance_id=self._instance_id,
            batch=True,
            max_records=self._records_max,
            batch_timeout_ms=BATCH_TIMEOUT_MS,
            parser=tolerant_parser,
            decoder=raw_bodies,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            auto_offset_reset="earliest",
            no_reply=True,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=POLL_INTERVAL_MS_MAX,
            listener=self._in_flight,
        )
        self.subscriber(self.on_batch)

    async def on_batch(self, message: KafkaMessage) -> None:
        """Handle one batch and commit its offsets; on an error pause, then raise, which rewinds it."""
        raw: Any = message.raw_message
        records = [incoming(record) for record in raw]
        taken = self._in_flight.revocations
        try:
            async with self._in_flight.lock:
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
            if self._putting_off is not None:
                self._putting_off.wake_all(message.consumer)
            raise
        self._recovered(len(records), seconds)

    def _due(self, message: KafkaMessage, records: list[Incoming]) -> list[Incoming]:
        """Return what may be handled now; of a topic with a delay the rest stays in Kafka."""
        return records if self._putting_off is None else self._putting_off.take_due(message.consumer, records)

    async def _take(self, message: KafkaMessage, records: Sequence[Incoming]) -> float:
        """Handle records and commit them, and let liveness know since when; return how many seconds it took."""
        self.head_timestamp_ms = min(record.timestamp_ms for record in records)
        began = self.busy_since = clock.monotonic()
        try:
            await self._handle(records)
            await self._commit(message)
        finally:
            self.busy_since = None
        return clock.monotonic() - began

    async def _end_the_process(self, fatal: TooManyCulprits) -> None:
        """Ask for the end, and hold the batch until it comes: let go, it would be polled again at once."""
        if self.fatal is not None and not self.fatal.done():
            self.fatal.set_result(fatal)
        await self._stopping.wait()

    async def _pause(self, error: Exception, records: int) -> None:
        """Tell what the batch failed of, in the log only the first time, and wait before it comes again."""
        self._trouble = error_name(error)
        metrics.batch_failures.labels(self.topic, type(error).__name__).inc()
        if self._backoff.failures == 0:
            log.warning("batch.rewound", topic=self.topic, records=records, error=error_name(error))
        await self._backoff.pause(self._stopping)

    async def _commit(self, message: KafkaMessage) -> None:
        try:
            # Here and not by the policy: the lock must cover the commit, and FastStream swallows a commit's errors.
            await message.ack()
        except (CommitFailedError, IllegalStateError):
            # The group gave our partitions to somebody else; what we did is in the inbox, and is recognised there.
            metrics.commit_failures.labels(self.topic).inc()
            log.warning("offsets.not_ours_any_more", topic=self.topic, group=self.group)

    def _given_away(self, message: KafkaMessage, taken: int) -> bool:
        """Tell whether a rebalance came since the batch was taken; its records are then read again from what is committed.

        Whoever has the partitions now may be at work on them: neither handling nor committing nor rewinding is ours.
        """
        if self._in_flight.revocations == taken:
            return False
        message.committed = AckStatus.NACKED  # so that FastStream's policy leaves the offsets alone
        log.info("batch.given_away", topic=self.topic, group=self.group)
        return True

    def _reassigned(self) -> None:
        """Forget what failed: it may be another member's now; if it is still ours, its next failure says so again."""
        self._trouble = self.head_timestamp_ms = None

    def _recovered(self, records: int, seconds: float) -> None:
        if self._trouble is not None:
            log.info("batch.taken_after_trouble", topic=self.topic, attempts=self._backoff.failures)
        self._trouble = self.head_timestamp_ms = None
        self._backoff.reset()
        metrics.records_consumed.labels(self.topic).inc(records)
        metrics.batch_seconds.labels(self.topic).observe(seconds)


def create(kafka: settings.Kafka, *, client_id: str, subscriptions: Sequence[Subscription]) -> KafkaBroker:
    """Return a broker with these subscriptions; nothing is connected yet. It only consumes: publishing is producer.py's."""
    broker = KafkaBroker(
        bootstrap_servers=list(kafka.kafka_bootstrap_servers),
        security=_security(kafka),
        client_id=client_id,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        metadata_max_age_ms=METADATA_AGE_MS_MAX,
        acks="all",
        enable_idempotence=False,
        allow_auto_create_topics=False,
        consumer_only=True,
        graceful_timeout=GRACEFUL_STOP_SECONDS,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        logger=FASTSTREAM,
        log_level=logging.DEBUG,
    )
    FASTSTREAM.addFilter(_is_unexpected)
    for subscription in subscriptions:
        subscription.bind(broker)
    require_safe(broker)
    return broker


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Tell whether FastStream's traceback says more than `batch.rewound`: not of what we raised ourselves, as at every stop."""
    return not (record.exc_info and isinstance(record.exc_info[1], errors.Transient))


async def start(broker: KafkaBroker) -> None:
    """Connect and start every subscription on rewinding consumers. Raises KafkaError while the cluster is away."""
    passed_over.listen()
    await broker.connect()
    config: Any = broker.config.broker_config
    config.builder = functools.partial(RewindingConsumer, **config.builder.keywords)
    # Side by side, and not by FastStream's own start, which waits for each group's assignment before it joins the next.
    subscribers: Sequence[Any] = broker.subscribers
    starting = [asyncio.ensure_future(subscriber.start()) for subscriber in subscribers]
    try:
        await asyncio.gather(*starting)
    except (KafkaError, asyncio.CancelledError):
        for start_ in starting:
            start_.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        # A consumer that could not join is left half made; the next attempt makes a new one.
        await broker.stop()
        raise
    broker.running = True


def require_safe(broker: KafkaBroker) -> None:
    """Raise UnsafeSubscription unless every subscription keeps what it cannot handle."""
    subscribers: Sequence[Any] = broker.subscribers
    for subscriber in subscribers:
        arguments = subscriber._connection_args  # noqa: SLF001 - FastStream shows the resolved arguments nowhere else
        safe = (
            subscriber.ack_policy is AckPolicy.NACK_ON_ERROR
            and arguments["enable_auto_commit"] is False
            and arguments["auto_offset_reset"] == "earliest"
            and bool(subscriber.group_id)
        )
        if not safe:
            raise UnsafeSubscription(f"{subscriber.topic_names}: NACK_ON_ERROR, earliest and a group are required")


async def raw_bodies(message: Any) -> Any:
    """FastStream's decoder, which would parse JSON: hand on the bytes as they are."""
    return message.body


async def tolerant_parser(raw: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """FastStream's parser, which loses a whole batch over one header that is null or not UTF-8: leave such headers out.

    The handler sees the record's own headers; only FastStream's copy is cut.
    """
    try:
        return await original(raw)
    except (UnicodeDecodeError, AttributeError):
        cut = [dataclasses.replace(r, headers=tuple((k, v) for k, v in r.headers if _is_utf8(v))) for r in raw]
        parsed = await original(tuple(cut))
        parsed.raw_message = raw
        return parsed


def _is_utf8(value: bytes | None) -> bool:
    if value is None:
        return False
    with suppress(UnicodeDecodeError):
        value.decode()
        return True
    return False


def _security(kafka: settings.Kafka) -> BaseSecurity:
    encrypted = kafka.kafka_security_protocol.endswith("SSL")
    context = connection.ssl_context(kafka) if encrypted else None
    if not kafka.kafka_security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=encrypted)
    assert kafka.kafka_sasl_username is not None
    assert kafka.kafka_sasl_password is not None
    return SASL[kafka.kafka_sasl_mechanism](
        username=kafka.kafka_sasl_username,
        password=kafka.kafka_sasl_password.get_secret_value(),
        ssl_context=context,
        use_ssl=encrypted,
    )
