"""The ladder: where a record is tried again, when it is due there, and when it is given up; pure.

Enters: how often a record was tried, or a batch of a step's records. Leaves: the next step, or those that are due. A record
that is not due stays in Kafka: within a partition a step's constant delay keeps due times in order, so the first one that is
not due ends what may be taken. Next: deferral.py, which makes the consumer wait for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.kafka.records import Incoming
from shared.topics import Topic

DUE = "x-due-ms"  # absolute, milliseconds since the epoch
MS_PER_SECOND = 1000
CLOCKS_APART_MS_MAX = 60_000  # two machines' clocks may differ by less: then a retry is late by as much, and not early
MOMENT_DIGITS_MAX = 15  # no time has more, and int() is slow on thousands


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a ladder in this cluster: `topic` is the full name."""

    topic: str
    delay_seconds: int

    def due_ms(self, now_ms: int) -> int:
        """Return when a record is due that is written to this step now."""
        return now_ms + self.delay_seconds * MS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Waiting:
    """From this offset on a partition's records are not due before `due_ms`."""

    offset: int
    due_ms: int


@dataclass(frozen=True, slots=True)
class Split:
    """A batch cut in two: what is due, and for each partition (topic, number) with more where that begins."""

    due: list[Incoming] = field(default_factory=list)
    waiting: dict[tuple[str, int], Waiting] = field(default_factory=dict)


def steps(ladder: Sequence[Topic], *, prefix: str) -> tuple[Step, ...]:
    """Return a ladder of the map as it stands in the cluster where `TOPIC_PREFIX` is `prefix`."""
    return tuple(Step(topic.named(prefix), topic.delay_seconds) for topic in ladder)


def step_after(ladder: Sequence[Step], attempts: int) -> Step | None:
    """Return where to go after so many failed attempts (one or more), or None when the ladder is climbed to its end."""
    return ladder[attempts - 1] if attempts <= len(ladder) else None


def split(records: Sequence[Incoming], *, now_ms: int, delay_seconds: int) -> Split:
    """Cut a batch of one step into what is due now and what is not; records of a partition come in their order.

    No header makes a record wait longer than its step's delay after it was written. One that was written in our future is due:
    our clock is behind, or was set back, by an hour perhaps, and no letter should wait until it has caught up.
    """
    cut = Split()
    for record in records:
        partition = (record.topic, record.partition)
        if partition in cut.waiting:
            continue
        due_ms = min(_due_ms(record), record.timestamp_ms + delay_seconds * MS_PER_SECOND)
        if due_ms <= now_ms or record.timestamp_ms > now_ms + CLOCKS_APART_MS_MAX:
            cut.due.append(record)
        else:
            cut.waiting[partition] = Waiting(record.offset, due_ms)
    return cut


def _due_ms(record: Incoming) -> int:
    """Return when a record is due by its header; one without a readable time is due at once."""
    value = record.header(DUE) or b""
    return int(value) if value.isdigit() and len(value) <= MOMENT_DIGITS_MAX else 0
