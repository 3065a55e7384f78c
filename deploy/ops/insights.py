"""What an operator may ask of Kafka: reads only, whichever command shows the answer.

Enters: settings. Leaves: plain values. Next: commands/ shows them, actions.py acts upon them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaConnectionError

from deploy.ops.dead_letters import DeadLetter, describe
from deploy.ops.errors import NotFound
from deploy.ops.progress import Progress
from shared import clock, settings, topics
from shared.kafka import connection
from shared.kafka.records import Incoming, incoming
from shared.topics import Topic

CLIENT_ID = "culturebridge-ops"
ANSWER_SECONDS = 10.0  # a person waits; a cluster that needs longer than this for its first answer is away
POLL_MS = 1000
FETCH_WAIT_MS = 50
TAKEN_EVERY_SECONDS = 0.2

Span = tuple[int, int]


def dead_letter_topic(name: str, *, prefix: str) -> Topic:
    """Return the dead-letter topic of that name, given with or without the prefix; raises NotFound."""
    for topic in topics.DEAD_LETTER_TOPICS:
        if name in {topic.name, topic.named(prefix)}:
            return topic
    known = ", ".join(topic.name for topic in topics.DEAD_LETTER_TOPICS)
    raise NotFound(f"no dead-letter topic is called {name}; there are {known}")


async def dead_letters(kafka: settings.Kafka, which: Sequence[Topic], *, progress: Progress) -> list[DeadLetter]:
    """Return the dead letters of these topics without their bodies, newest last.

    Raises NotFound when a topic was never created, KafkaError or TimeoutError while the cluster is away.
    """
    async with reader(kafka, which) as (consumer, spans):
        found = [describe(record) async for record in read(consumer, spans, progress=progress)]
    return sorted(found, key=lambda letter: (letter.died_at, letter.topic, letter.partition, letter.offset))


@asynccontextmanager
async def reader(
    kafka: settings.Kafka, which: Sequence[Topic]
) -> AsyncIterator[tuple[AIOKafkaConsumer, Mapping[TopicPartition, Span]]]:
    """Give a consumer without a group, and for each partition of the topics its first offset and the one after its last.

    Raises as `dead_letters` does.
    """
    names = [topic.named(kafka.topic_prefix) for topic in which]
    partitions = await _partitions(kafka, names)
    consumer = AIOKafkaConsumer(
        **connection.for_aiokafka(kafka),
        client_id=CLIENT_ID,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await consumer.start()
    try:
        firsts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        yield consumer, {partition: (firsts[partition], ends[partition]) for partition in partitions}
    finally:
        await consumer.stop()
        _end_if_told_to()


async def read(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, Span], *, progress: Progress
) -> AsyncIterator[Incoming]:
    """Yield the records within the spans, and no later ones; `progress` gets how many are done."""
    left = {partition: span for partition, span in spans.items() if span[0] < span[1]}
    total, done = sum(end - first for first, end in left.values()), 0
    consumer.assign(list(left))
    for partition, (first, _) in left.items():
        consumer.seek(partition, first)
    heard_at = clock.monotonic()
    while left:
        batch = await consumer.getmany(*left, timeout_ms=POLL_MS)
        for partition, raws in batch.items():
            for raw in raws:
                if raw.offset < left[partition][1]:
                    done += 1
                    yield incoming(raw)
        if batch:
            heard_at = clock.monotonic()
            progress(done, total)
        elif clock.monotonic() - heard_at > ANSWER_SECONDS:
            raise KafkaConnectionError(f"no records for {ANSWER_SECONDS:.0f} s")
        # By position, not by the last record's offset: a log may have gaps.
        left = {partition: span for partition, span in left.items() if await consumer.position(partition) < span[1]}
        # What was fetched is handed out without a pause, and Ctrl-C is noticed only in one.
        await asyncio.sleep(0)


async def until_taken(kafka: settings.Kafka, topic: Topic, *, seconds_max: float) -> int:
    """Wait until the topic's first group has processed all that is there now; return how many records were left at the end.

    Raises as `dead_letters` does.
    """
    async with reader(kafka, [topic]) as (_, spans):
        pass
    if not any(end - first for first, end in spans.values()):
        return 0  # of an empty topic a new cluster may know no group, nor have a coordinator
    admin = AIOKafkaAdminClient(**connection.for_aiokafka(kafka), client_id=CLIENT_ID)
    await admin.start()
    try:
        deadline = clock.monotonic() + seconds_max
        while True:
            left = await _left(admin, kafka.topic_prefix + topic.groups[0], spans)
            if not left or clock.monotonic() > deadline:
                return left
            await asyncio.sleep(TAKEN_EVERY_SECONDS)
    finally:
        await admin.close()
        _end_if_told_to()


async def _left(admin: AIOKafkaAdminClient, group: str, spans: Mapping[TopicPartition, Span]) -> int:
    try:
        committed = await admin.list_consumer_group_offsets(group, partitions=list(spans))
    except GroupCoordinatorNotAvailableError:
        # The first group of a new cluster: it makes the topic of offsets when it is first asked for one.
        return sum(end - first for first, end in spans.values())
    # A coordinator that is only coming up answers for no partition, and aiokafka does not look at why: it is not known yet.
    known = {partition: committed[partition].offset for partition in spans if partition in committed}
    return sum(max(0, end - max(first, known.get(partition, first))) for partition, (first, end) in spans.items())


def _end_if_told_to() -> None:
    """Raise CancelledError again: aiokafka swallows it while it closes, and the cancelled work would go on."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _partitions(kafka: settings.Kafka, names: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(
        **connection.for_aiokafka(kafka), client_id=CLIENT_ID, request_timeout_ms=int(ANSWER_SECONDS * 1000)
    )
    await admin.start()
    try:
        # All topics, not these: a cluster that creates topics on being asked for them would create ours, wrongly.
        existing = set(await admin.list_topics())
        for name in names:
            if name not in existing:
                raise NotFound(f"the cluster has no topic {name}: run `cb-ops topics apply`")
        described = await admin.describe_topics(list(names)) if names else []
        return [TopicPartition(topic["topic"], p["partition"]) for topic in described for p in topic["partitions"]]
    finally:
        await admin.close()


async def require_kafka(kafka: settings.Kafka) -> None:
    """Raise KafkaError or TimeoutError unless the cluster answers now: the next call would wait for it for ever."""
    await _partitions(kafka, ())
