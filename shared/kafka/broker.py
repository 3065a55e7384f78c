"""The one factory of brokers: explicit policies, raw bytes, a rewinding consumer, no busy loop.

Enters: subscriptions. Leaves: a broker of FastStream's that polls for them. Facts about FastStream 0.7 and aiokafka 0.14 that
these settings answer stand in docs/kafka.md. Next: subscription.py, which is given each batch.
"""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared import errors, settings
from shared.kafka import connection, passed_over
from shared.kafka.rewinding import RewindingConsumer
from shared.kafka.subscription import Subscription

# FastStream sleeps this long after an empty poll, and notices no record meanwhile; rewinding.py waits instead.
BATCH_TIMEOUT_MS = 1
# A broker answers as soon as there is a record, else after this time, and every subscription fetches again.
FETCH_WAIT_MS = 500
# Partitions that an operator added are read only after the next request for metadata; new producers write there before.
METADATA_AGE_MS_MAX = 20_000
SESSION_TIMEOUT_MS = 12_000  # nobody reads a dead member's partitions for this long; heartbeats share the event loop
HEARTBEAT_INTERVAL_MS = 1_000
REBALANCE_TIMEOUT_MS = 30_000
REQUEST_TIMEOUT_MS = 40_000  # above the rebalance timeout: a join is a request, too, and would be cut off
POLL_INTERVAL_MS_MAX = 300_000
GRACEFUL_STOP_SECONDS = 8.0  # a commit blocks for a whole outage; the process must end within 10 s

SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}

FASTSTREAM = logging.getLogger("consumer.faststream")


class UnsafeSubscription(errors.PipelineError):
    """A subscription would lose messages: its policy, offset reset or auto-commit is not what we require."""


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
        _bind(broker, subscription)
    require_safe(broker)
    return broker


def _bind(broker: KafkaBroker, subscription: Subscription) -> None:
    """Declare a subscription; its policies are the point of this module."""
    subscription.subscriber = broker.subscriber(
        subscription.topic,
        group_id=subscription.group,
        group_instance_id=subscription.instance_id,
        batch=True,
        max_records=subscription.records_max,
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
        listener=subscription.in_flight,
    )
    subscription.subscriber(subscription.on_batch)


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Return whether FastStream's traceback adds to `batch.rewound`: not for errors that we raised, as at every stop."""
    return not (record.exc_info and isinstance(record.exc_info[1], errors.Transient))


async def start(broker: KafkaBroker) -> None:
    """Connect and start every subscription on rewinding consumers. Raises KafkaError while the cluster is away."""
    passed_over.listen()
    await broker.connect()
    config: Any = broker.config.broker_config
    config.builder = functools.partial(RewindingConsumer, **config.builder.keywords)
    # Concurrently, and not by FastStream's own start, which waits for each group's assignment before it joins the next.
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
    """Replace FastStream's decoder, which would parse JSON: return the bytes as they are."""
    return message.body


async def tolerant_parser(raw: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """Replace FastStream's parser, which loses a whole batch over one header that is null or not UTF-8: omit such headers.

    The handler gets the record's own headers; only FastStream's copy is cut.
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
