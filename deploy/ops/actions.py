"""Replay or drop dead letters; each can be repeated without a second effect, and records who did it.

Enters: settings, and which dead letters. Leaves: what was done; `dead_letter_actions` names the author before anything is
published. Next: the topic's consumers process a replay like any other record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition

from deploy.ops import insights
from deploy.ops.audit import Audit
from deploy.ops.dead_letters import ActionKind, DeadLetter, Selection, describe, replayed
from deploy.ops.errors import NotFound, kafka_errors_as_ops_errors
from deploy.ops.insights import Span
from deploy.ops.progress import Progress
from shared import clock, logs, settings
from shared.kafka import producer
from shared.kafka.records import Incoming, Record
from shared.topics import Topic

log = logs.get(__name__)

PUBLISHED_AT_ONCE_MAX = 100
PUBLISH_SECONDS_MAX = 30.0  # no customer waits for it: give a busy cluster time


@dataclass(frozen=True, slots=True)
class SelectedLetter:
    """One dead letter with its bytes, and what is known of it."""

    record: Incoming
    letter: DeadLetter


async def select(
    kafka: settings.Kafka, source: Topic, selection: Selection, *, audit: Audit, progress: Progress, dropped_too: bool = False
) -> list[SelectedLetter]:
    """Return the selected dead letters of a topic, oldest first; dropped ones only with `dropped_too`.

    Raises NotFound when an id fits none of them; KafkaUnavailable or DatabaseUnavailable.
    """
    async with kafka_errors_as_ops_errors(kafka), insights.reader(kafka, [source]) as (consumer, spans):
        narrowed = _narrow(spans, selection)
        found = [record async for record in insights.read(consumer, narrowed, progress=progress)]
    now = clock.now()
    letters = await audit.with_actions([describe(record) for record in found])
    standing = [SelectedLetter(r, x) for r, x in zip(found, letters, strict=True) if dropped_too or not x.is_dropped]
    selected = [one for one in standing if selection.fits(one.letter, now=now)]
    for wished in selection.ids:
        if not any(one.letter.answers_to(wished) for one in standing):
            raise NotFound(f"{source.name} holds nothing under {wished}, or it was dropped")
    return sorted(selected, key=lambda one: (one.letter.died_at, one.letter.partition, one.letter.offset))


async def replay(kafka: settings.Kafka, source: Topic, selected: Sequence[SelectedLetter], *, audit: Audit, by: str) -> int:
    """Publish dead letters to the topic that they came from; of equal ones only the first. Return how many were published.

    What was acknowledged before a failure stays, and the call may be repeated: consumers ignore what they know. Raises
    KafkaUnavailable or DatabaseUnavailable.
    """
    first = {(one.record.key, one.record.value): one.record for one in reversed(selected)}
    records = [replayed(record, source, prefix=kafka.topic_prefix) for record in reversed(first.values())]
    begun = await audit.begin(ActionKind.REPLAY, [one.letter for one in selected], by=by)
    async with kafka_errors_as_ops_errors(kafka):
        await put_back(kafka, records)
    await audit.finish(begun)
    for one in selected:
        log.info("dead_letter.replayed", topic=one.letter.topic, partition=one.letter.partition, offset=one.letter.offset)
    return len(records)


async def drop(selected: Sequence[SelectedLetter], *, audit: Audit, by: str) -> None:
    """Give dead letters up: they are neither listed nor put back any more, and Kafka deletes them in its time."""
    await audit.finish(await audit.begin(ActionKind.DROP, [one.letter for one in selected], by=by))
    for one in selected:
        log.info("dead_letter.dropped", topic=one.letter.topic, partition=one.letter.partition, offset=one.letter.offset)


async def put_back(kafka: settings.Kafka, records: Sequence[Record]) -> None:
    """Publish records that are replays, all to one topic, and return once Kafka has acknowledged each.

    Raises KafkaError, KafkaAway or TimeoutError: what was acknowledged before stays, and the same call may be repeated.
    """
    goal = records[0].topic
    # A producer waits for its cluster without end, as a consumer's must; a person does not.
    await insights.require_kafka(kafka)
    async with producer.opened(kafka, client_id=insights.CLIENT_ID, warm=[goal]) as publisher:
        for begin in range(0, len(records), PUBLISHED_AT_ONCE_MAX):
            part = records[begin : begin + PUBLISHED_AT_ONCE_MAX]
            await publisher.publish(part, deadline_seconds=PUBLISH_SECONDS_MAX)
            log.info("replay.published", topic=goal, count=len(part))


def _narrow(spans: Mapping[TopicPartition, Span], selection: Selection) -> Mapping[TopicPartition, Span]:
    """Return the range to read: a single offset when only one place is asked for."""
    places = selection.places
    if places is None:
        return spans
    narrowed: dict[TopicPartition, Span] = {}
    for partition, (first, end) in spans.items():
        offsets = [offset for number, offset in places if number == partition.partition and first <= offset < end]
        if offsets:
            narrowed[partition] = (min(offsets), max(offsets) + 1)
    return narrowed
