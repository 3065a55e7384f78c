"""The life of a consumer process: wait for Kafka, consume, serve its health, drain, and return how it ended.

Enters: settings and a function that builds the process's subscriptions once a producer has started. Leaves: an exit status, 0
after SIGTERM or SIGINT, 1 when something broke that a restart must mend.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress

from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker
from sqlalchemy.ext.asyncio import AsyncEngine

from shared import ending, errors, garbage, logs, settings
from shared.db import engine as engines
from shared.db import health as database_health
from shared.kafka import broker, connection, health, liveness, producer
from shared.kafka.batch import TRANSACTIONS_MAX, Batches, Consumer, ItemT
from shared.kafka.liveness import Liveness
from shared.kafka.producer import Producer
from shared.kafka.subscription import Subscription
from shared.topics import Topic

log = logs.get(__name__)

CONNECTIONS_MAX = TRANSACTIONS_MAX + 2  # and for the background and for health


class ServiceSettings(settings.Kafka, settings.Health):
    """What every consumer process needs to live."""


Build = Callable[[Producer, ending.End], Sequence[Subscription]]
Trouble = Callable[[], Awaitable[Sequence[str]]]


async def run(configured: ServiceSettings, *, name: str, build: Build, trouble: Trouble) -> int:
    """Run until a signal or a fault; `trouble` adds the process's own reasons for not being ready (its database, …)."""
    end = ending.End()
    client_id = f"culturebridge-{name}"
    subscriptions: Sequence[Subscription] = ()
    watched: Sequence[Liveness] = ()
    publisher: Producer | None = None

    async def ready() -> Sequence[str]:
        return await _reasons(subscriptions, publisher, trouble)

    async def live() -> Sequence[str]:
        return await _faults(watched, publisher)

    async with health.served(configured, live=live, ready=ready):
        with suppress(errors.Stopping):
            async with producer.opened(configured, client_id=client_id, stopping=end.stopping) as publisher:
                subscriptions = build(publisher, end)
                watched = [Liveness(subscription) for subscription in subscriptions]
                consuming = broker.create(configured, client_id=client_id, subscriptions=subscriptions)
                await connection.until_answers(configured, lambda: broker.start(consuming), stopping=end.stopping)
                garbage.collect_rarely()
                log.info("consumer.started", consumer=name)
                lag = asyncio.create_task(liveness.watch_lag(subscriptions))
                try:
                    await end.until_over(live)
                finally:
                    lag.cancel()
                    await _stop(consuming)
    return end.status()


async def _reasons(subscriptions: Sequence[Subscription], publisher: Producer | None, trouble: Trouble) -> list[str]:
    """Return why it is not ready. Kafka and the rest are checked at once: a probe waits for 5 s, and neither may answer."""
    kafkas, others = await asyncio.gather(_trouble_of_kafka(subscriptions, publisher), trouble())
    return [*kafkas, *others]


async def _trouble_of_kafka(subscriptions: Sequence[Subscription], publisher: Producer | None) -> list[str]:
    reasons = [f"{s.topic}: {s.trouble}" for s in subscriptions if s.trouble]
    if publisher is None or not subscriptions or not all(liveness.has_assignment(s) for s in subscriptions):
        reasons.append("no partitions assigned yet")
    elif not await publisher.answers(*(s.topic for s in subscriptions)):
        reasons.append("kafka: no answer, or not for every topic")
    return reasons


async def _faults(watched: Sequence[Liveness], publisher: Producer | None) -> list[str]:
    """Return why it is dead. All are checked concurrently: seven in a row would outlast a probe while Kafka is silent."""
    found = await asyncio.gather(*(one.fault() for one in watched))
    faults = [reason for reason in found if reason is not None]
    if publisher is not None and publisher.is_dead:
        faults.append("the producer's sender task ended")
    return faults


async def _stop(consuming: KafkaBroker) -> None:
    with suppress(KafkaError, TimeoutError, ExceptionGroup):
        await consuming.stop()


class DatabaseConsumerSettings(ServiceSettings, settings.Database):
    """The settings of a consumer whose effects are rows: Kafka, its health, and PostgreSQL."""


async def run_database_consumer(
    configured: DatabaseConsumerSettings,
    *,
    name: str,
    consumer: Consumer[ItemT],
    source: Topic,
    target: Topic,
    refusals: Topic,
    background: Callable[[AsyncEngine], Coroutine[object, object, None]] | None = None,
) -> int:
    """Handle the batches of `source` as the process `name`, which emit to `target`; return its exit status.

    `background` is what the process does beside its batches, for as long as it lives; it is cancelled at the end.
    """
    group = source.group_of(name)
    async with AsyncExitStack() as held:
        engine = engines.create(configured, application=name, pool_size=CONNECTIONS_MAX)
        held.push_async_callback(engine.dispose)
        if background is not None:
            held.push_async_callback(_cancel, asyncio.create_task(background(engine)))

        def build(publisher: Producer, end: ending.End) -> Sequence[Subscription]:
            batches = Batches(
                consumer,
                engine=engine,
                producer=publisher,
                group=configured.topic_prefix + group,
                target=target.named(configured.topic_prefix),
                refusals=refusals.named(configured.topic_prefix),
            )
            return [Subscription(source, group, batches.handle, configured, end)]

        return await run(configured, name=name, build=build, trouble=database_health.trouble(engine))


async def _cancel(running: "asyncio.Task[None]") -> None:
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
