"""A dead letter as an operator sees it, and as a replay puts it back; pure.

Enters: a record of a dead-letter topic. Leaves: its description without its body, or the record that repeats it.
Next: insights.py reads them, actions.py puts them back.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from shared import topics
from shared.kafka import dead_letters, retry
from shared.kafka.records import Incoming, Record
from shared.topics import Topic

ATTEMPTS_DIGITS_MAX = 9
# Where a replay goes: to the topic whose reader refused it. A letter that was given up enters the ladder's first step.
REPLAYED_TO = {
    topics.STRIPE_EVENTS_DLT: topics.STRIPE_EVENTS,
    topics.PAYMENTS_EVENTS_DLT: topics.PAYMENTS_EVENTS,
    topics.BOOKINGS_EVENTS_DLT: topics.BOOKINGS_EVENTS,
    topics.EMAIL_DLT: topics.EMAIL_LADDER[0],
}
# What the refusal said. x-origin stays: it tells where the first record lay, however often a letter goes round.
TOLD_BY_THE_REFUSAL = frozenset({dead_letters.REASON, dead_letters.GROUP, dead_letters.ATTEMPT, dead_letters.REPLAY, retry.DUE})

# Ids, codes and places; bytes that are none of these may be anything, a person's address included, and are not shown.
_SHOWN = re.compile(r"[\w.:/-]{1,120}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter without its body; `attempts` is None where nobody counted, `origin` is topic/partition/offset."""

    topic: str
    partition: int
    offset: int
    died_at: datetime
    key: str
    reason: str
    group: str
    origin: str
    attempts: int | None

    @property
    def code(self) -> str:
        """The reason's stable part."""
        return self.reason.partition(":")[0]


def describe(record: Incoming) -> DeadLetter:
    """Return what may be shown of a record of a dead-letter topic."""
    headers = dict(record.headers)
    attempts = headers.get(dead_letters.ATTEMPT, b"")
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        died_at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
        key=_identifier(record.key),
        reason=_line(headers.get(dead_letters.REASON, b"")),
        group=_identifier(headers.get(dead_letters.GROUP, b"")),
        origin=_identifier(headers.get(dead_letters.ORIGIN, b"")),
        attempts=int(attempts) if attempts.isdigit() and len(attempts) <= ATTEMPTS_DIGITS_MAX else None,
    )


def replayed(record: Incoming, source: Topic, *, prefix: str) -> Record:
    """Return the record that repeats a dead letter: the same key and bytes, marked as a replay, its attempts forgotten.

    Whoever reads it absorbs what it knows already (inbox, ledger of letters), so that replaying twice does nothing twice.
    """
    goal = REPLAYED_TO[source]
    kept = tuple((name, value) for name, value in record.headers if name not in TOLD_BY_THE_REFUSAL)
    reset = ((dead_letters.ATTEMPT, b"0"),) if source is topics.EMAIL_DLT else ()
    return Record(goal.named(prefix), record.key, record.value, (*kept, *reset, (dead_letters.REPLAY, b"1")))


def _identifier(value: bytes) -> str:
    text = value.decode("ascii", errors="replace")
    if not text or _SHOWN.fullmatch(text):
        return text
    return f"[withheld, {len(value)} bytes]"


def _line(value: bytes) -> str:
    text = value.decode("utf-8", errors="replace")[: dead_letters.REASON_CHARACTERS_MAX]
    # Whatever a terminal would obey must not reach it.
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
