"""Makes the cluster look like the map: create what is missing, report what differs, delete and shrink nothing.

Enters: the Kafka settings and shared/topics.py. Leaves: a report, one line a topic. Next: `cb-ops topics apply`.
"""

import asyncio
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from shared import errors, settings, topics
from shared.kafka import connection

REPLICATION_MAX = 3
IN_SYNC_REPLICAS_MIN = 2
VISIBLE_SECONDS_MAX = 10.0
VISIBLE_EVERY_SECONDS = 0.05
BROKERS_SECONDS_MAX = 60.0  # within which a whole cluster comes up


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting of an existing topic that is not as the map says; an operator decides what to do about it."""

    topic: str
    setting: str
    is_now: str
    should_be: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `apply` did and found; names are full names in this cluster."""

    created: tuple[str, ...]
    unchanged: tuple[str, ...]
    differences: tuple[Difference, ...]


async def apply(kafka: settings.Kafka, *, brokers_min: int = 1) -> Report:
    """Create every missing topic of the map and compare the others with it, once so many brokers are there.

    A topic keeps the number of replicas that it was made with: made while brokers are away it would have too few for good.
    Raises errors.Transient when the brokers do not come, KafkaError when the cluster refuses.
    """
    admin = AIOKafkaAdminClient(**connection.for_aiokafka(kafka), client_id="culturebridge-topics")
    await connection.until_answers(kafka, admin.start, stopping=None)
    try:
        brokers = await _until_there(admin, brokers_min)
        existing = set(await admin.list_topics())
        wanted = {topic.named(kafka.topic_prefix): topic for topic in topics.ALL}
        missing = [name for name in wanted if name not in existing]
        await _create(admin, [_new(name, wanted[name], brokers) for name in missing])
        await _until_visible(admin, missing)
        there = [name for name in wanted if name in existing]
        differences = [found for name in there for found in await _compare(admin, name, wanted[name], brokers)]
        differing = {found.topic for found in differences}
        return Report(tuple(missing), tuple(n for n in there if n not in differing), tuple(differences))
    finally:
        await admin.close()


async def _until_there(admin: AIOKafkaAdminClient, brokers_min: int) -> int:
    """Return how many brokers there are, at least `brokers_min`."""
    brokers = 0
    try:
        async with asyncio.timeout(BROKERS_SECONDS_MAX):
            while (brokers := len((await admin.describe_cluster())["brokers"])) < brokers_min:  # noqa: ASYNC110 - Kafka notifies nobody of it
                await asyncio.sleep(VISIBLE_EVERY_SECONDS)
    except TimeoutError:
        raise errors.Transient(f"{brokers} of {brokers_min} brokers are there, and no topic was made") from None
    return brokers


def configuration(topic: topics.Topic, *, brokers: int) -> dict[str, str]:
    """Return a topic's settings on a cluster of so many brokers."""
    return {
        "retention.ms": str(topic.retention_days * topics.DAY_MS),
        "segment.ms": str(topics.SEGMENT_MS),
        "max.message.bytes": str(topic.message_bytes_max),
        "min.insync.replicas": str(IN_SYNC_REPLICAS_MIN if brokers >= REPLICATION_MAX else 1),
        "cleanup.policy": "delete",
        # By its own defaults a broker may delete records beyond a size, and compress batches anew in a way that not every
        # reader can unpack: what docs/topics promises must not depend on them.
        "retention.bytes": "-1",
        "compression.type": "producer",
        # Retention uses it: with the producer's time, records of a process whose clock is weeks behind would be deleted before
        # anybody read them, and records from an hour ahead are refused. A step of the ladder is written and read by one clock.
        "message.timestamp.type": "CreateTime" if topic.delay_seconds else "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


def _new(name: str, topic: topics.Topic, brokers: int) -> NewTopic:
    return NewTopic(
        name,
        num_partitions=topic.partitions,
        replication_factor=min(REPLICATION_MAX, brokers),
        topic_configs=configuration(topic, brokers=brokers),
    )


async def _create(admin: AIOKafkaAdminClient, new: list[NewTopic]) -> None:
    if not new:
        return
    answer = await admin.create_topics(new)
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        # Another process may be applying the same map.
        if code and error is not TopicAlreadyExistsError:
            raise error(f"{name}: {message[0] if message else error.__name__}")


async def _until_visible(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until the broker that we ask shows the topics that the controller made: before that nobody could use them."""
    async with asyncio.timeout(VISIBLE_SECONDS_MAX):
        while not set(names) <= set(await admin.list_topics()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(VISIBLE_EVERY_SECONDS)


async def _compare(admin: AIOKafkaAdminClient, name: str, topic: topics.Topic, brokers: int) -> list[Difference]:
    described = (await admin.describe_topics([name]))[0]
    if code := described["error_code"]:
        raise for_code(code)(f"{name}: it is listed and cannot be described; if it is just being deleted, run this again")
    partitions = described["partitions"]
    shape = {
        "partitions": (str(len(partitions)), str(topic.partitions)),
        "replication": (str(len(partitions[0]["replicas"])), str(min(REPLICATION_MAX, brokers))),
    }
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    for code in (resource[0] for answer in answers for resource in answer.resources):
        if code:
            raise for_code(code)(f"{name}: its settings cannot be read")
    now = {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
    shape |= {key: (now.get(key, ""), value) for key, value in configuration(topic, brokers=brokers).items()}
    return [Difference(name, setting, is_now, should) for setting, (is_now, should) in shape.items() if is_now != should]
