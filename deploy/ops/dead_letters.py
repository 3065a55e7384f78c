"""A dead letter as an operator sees, selects and replays it; pure.

Enters: a record of a dead-letter topic. Leaves: its description without its body, whether it is selected, or the record that
replays it. Next: insights.py reads them, actions.py replays them, audit.py records who did.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared import topics
from shared.kafka import dead_letters, retry
from shared.kafka.records import ORIGIN, Incoming, Record
from shared.topics import Topic

# Where a replay goes: to the topic whose reader refused it. A letter that was given up enters the ladder's first step.
REPLAYED_TO = {
    topics.STRIPE_EVENTS_DLT: topics.STRIPE_EVENTS,
    topics.PAYMENTS_EVENTS_DLT: topics.PAYMENTS_EVENTS,
    topics.BOOKINGS_EVENTS_DLT: topics.BOOKINGS_EVENTS,
    topics.EMAIL_DLT: topics.EMAIL_LADDER[0],
}
# What the refusal wrote. x-origin stays: it is the place of the first record, however often a letter goes round.
REFUSAL_HEADERS = frozenset({dead_letters.REASON, dead_letters.GROUP, dead_letters.ATTEMPT, dead_letters.REPLAY, retry.DUE})

# Ids, codes and places; bytes that are none of these may be anything, a person's address included, and are not shown.
_SHOWN = re.compile(r"[\w.:/-]{1,120}", re.ASCII)
_PLACE = re.compile(r"(\d{1,9})/(\d{1,18})", re.ASCII)


class ActionKind(StrEnum):
    """What an operator may do with a dead letter."""

    REPLAY = "replay"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Action:
    """One action on a dead letter; without `done_at` it was started, and perhaps never completed."""

    action: str
    actor: str
    begun_at: datetime
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter without its body; `attempts` is None where they were not counted, `origin` is topic/partition/offset.

    `id` is partition/offset: where it lies in its topic. With `bytes_omitted` its value was too large for a dead letter: it
    lies at `origin` only, and cannot be put back from here.
    """

    id: str
    topic: str
    partition: int
    offset: int
    died_at: datetime
    key: str
    reason: str
    group: str
    origin: str
    attempts: int | None
    bytes_omitted: bool = False
    actions: tuple[Action, ...] = ()

    @property
    def code(self) -> str:
        """The reason's stable part."""
        return self.reason.partition(":")[0]

    @property
    def is_dropped(self) -> bool:
        """Whether an operator gave it up."""
        return any(action.action == ActionKind.DROP and action.done_at is not None for action in self.actions)

    def answers_to(self, wished: str) -> bool:
        """Whether it is at this place, or about this event, payment or booking."""
        return wished == self.id or _spelt(wished) == _spelt(self.key)


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that an operator selects: all given conditions must hold; `ids` are places or keys."""

    ids: tuple[str, ...] = ()
    code: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None

    @property
    def places(self) -> list[tuple[int, int]] | None:
        """The partitions and offsets that are asked for, or None when something else is."""
        found = [_PLACE.fullmatch(wished) for wished in self.ids]
        known = [(int(match[1]), int(match[2])) for match in found if match is not None]
        return known if known and len(known) == len(self.ids) else None

    def fits(self, letter: DeadLetter, *, now: datetime) -> bool:
        """Whether a letter is one of those."""
        age = now - letter.died_at
        return (
            (not self.ids or any(letter.answers_to(wished) for wished in self.ids))
            and (self.code is None or letter.code == self.code)
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
        )


def describe(record: Incoming) -> DeadLetter:
    """Return the parts of a dead letter that may be shown."""
    headers = dict(record.headers)
    return DeadLetter(
        id=f"{record.partition}/{record.offset}",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        died_at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
        key=_identifier(record.key),
        reason=_line(headers.get(dead_letters.REASON, b"")),
        group=_identifier(headers.get(dead_letters.GROUP, b"")),
        origin=_identifier(headers.get(ORIGIN, b"")),
        attempts=dead_letters.attempts(record),
        bytes_omitted=dead_letters.OMITTED_BYTES in headers,
    )


def replayed(record: Incoming, source: Topic, *, prefix: str) -> Record:
    """Return the record that replays a dead letter: the same key and bytes, marked as a replay, attempts reset.

    Its consumers ignore what they know already (inbox, ledger of letters), so that replaying twice does nothing twice.
    """
    goal = REPLAYED_TO[source]
    kept = tuple((name, value) for name, value in record.headers if name not in REFUSAL_HEADERS)
    reset = ((dead_letters.ATTEMPT, b"0"),) if source is topics.EMAIL_DLT else ()
    return Record(goal.named(prefix), record.key, record.value, (*kept, *reset, (dead_letters.REPLAY, b"1")))


def _identifier(value: bytes) -> str:
    text = value.decode("ascii", errors="replace")
    if not text or _SHOWN.fullmatch(text):
        return text
    return f"[withheld, {len(value)} bytes]"


def _spelt(identifier: str) -> str:
    """Return the one spelling of a UUID, and anything else as it is: in Stripe's ids a capital is another letter."""
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        return identifier


def _line(value: bytes) -> str:
    text = value.decode("utf-8", errors="replace")[: dead_letters.REASON_CHARACTERS_MAX]
    # Whatever a terminal would obey must not reach it.
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
