"""Put records back on their topic; it can be repeated without a second effect, and leaves a trace.

A replay marks its record and is logged. Enters: settings, and what was asked for. Leaves: what was done. Next: whoever reads
the topic takes a replay like any other record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from aiokafka import TopicPartition

from deploy.ops import insights
from deploy.ops.dead_letters import DeadLetter, describe, replayed
from deploy.ops.errors import NotThere
from deploy.ops.insights import Progress, Span
from shared import logs, settings
from shared.kafka import producer
from shared.kafka.records import Incoming, Record
from shared.topics import Topic

log = logs.get(__name__)

PUBLISHED_AT_ONCE_MAX = 100
PUBLISH_SECONDS_MAX = 30.0  # nobody waits at a till: give a busy cluster time


@dataclass(frozen=True, slots=True)
class Place:
    """One dead letter, by where it lies."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Every:
    """All dead letters of a topic, or those with this reason's code; of equal ones the first."""

    code: str | None = None


Choice = Place | Every


async def replay(
    kafka: settings.Kafka, source: Topic, choice: Choice, *, dry_run: bool, progress: Progress
) -> list[DeadLetter]:
    """Put the chosen dead letters back where they were refused, and return them once Kafka has acknowledged them all.

    Letters that die again meanwhile are not taken twice. With `dry_run` nothing is published. Raises NotThere when there is
    no such letter or topic, KafkaError, KafkaAway or TimeoutError while the cluster is away: what was acknowledged before
    stays, and the same call may be repeated.
    """
    async with insights.reader(kafka, [source]) as (consumer, spans):
        chosen = _narrow(spans, source, choice, prefix=kafka.topic_prefix)
        seen: set[tuple[bytes, bytes]] = set()
        picked: list[Incoming] = []
        async for record in insights.read(consumer, chosen, progress=progress):
            if _wanted(record, choice) and (record.key, record.value) not in seen:
                seen.add((record.key, record.value))
                picked.append(record)
    if isinstance(choice, Place) and not picked:
        raise NotThere(f"{source.name} holds nothing at partition {choice.partition}, offset {choice.offset}")
    if picked and not dry_run:
        await put_back(kafka, [replayed(record, source, prefix=kafka.topic_prefix) for record in picked])
        for record in picked:
            log.info("dead_letter.replayed", topic=record.topic, partition=record.partition, offset=record.offset)
    return [describe(record) for record in picked]


async def put_back(kafka: settings.Kafka, records: Sequence[Record]) -> None:
    """Publish records that are replays, all to one topic, and return once Kafka has acknowledged each.

    Raises KafkaError, KafkaAway or TimeoutError: what was acknowledged before stays, and the same call may be repeated.
    """
    goal = records[0].topic
    async with producer.opened(kafka, client_id=insights.CLIENT_ID, warm=[goal]) as publisher:
        for begin in range(0, len(records), PUBLISHED_AT_ONCE_MAX):
            part = records[begin : begin + PUBLISHED_AT_ONCE_MAX]
            await publisher.publish(part, deadline_seconds=PUBLISH_SECONDS_MAX)
            log.info("replay.published", topic=goal, count=len(part))


def _narrow(
    spans: Mapping[TopicPartition, Span], source: Topic, choice: Choice, *, prefix: str
) -> Mapping[TopicPartition, Span]:
    match choice:
        case Every():
            return spans
        case Place(partition=number, offset=offset):
            partition = TopicPartition(source.named(prefix), number)
            first, end = spans.get(partition, (0, 0))
            return {partition: (offset, offset + 1)} if first <= offset < end else {}
        case _ as never:
            assert_never(never)


def _wanted(record: Incoming, choice: Choice) -> bool:
    match choice:
        case Place(offset=offset):
            return record.offset == offset
        case Every(code=code):
            return code is None or describe(record).code == code
        case _ as never:
            assert_never(never)
