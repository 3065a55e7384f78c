"""The form of a dead letter: the same key and bytes, and headers with the reason, the group that refused it and its origin.

Next: `cb-ops dlt`, which reads these headers.
"""

from dataclasses import dataclass

from shared.kafka.record_sizes import bytes_max
from shared.kafka.records import FOREIGN_BYTES_MAX, ORIGIN, Incoming, Record
from shared.topics import DEAD_LETTER_BYTES_MAX

REASON = "x-error"
GROUP = "x-group"
ATTEMPT = "x-attempt"
REPLAY = "x-replay"  # set by a replay: only with it a letter that was given up is claimed again
OMITTED_BYTES = "x-omitted-bytes"  # the size of the original value; the dead letter's own is empty
REASON_CHARACTERS_MAX = 200
ATTEMPTS_DIGITS_MAX = 9  # no letter is tried more often, and int() is slow on thousands of digits


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is refused; `reason` is a stable code with an optional detail after a colon, without PII."""

    record: Incoming
    reason: str

    @property
    def code(self) -> str:
        """The reason's stable part, fit for a metric's label."""
        return self.reason.partition(":")[0]


def attempts(record: Incoming) -> int | None:
    """Return how often a letter was tried before this record, by its header; None without a readable number."""
    value = record.header(ATTEMPT) or b""
    return int(value) if value.isdigit() and len(value) <= ATTEMPTS_DIGITS_MAX else None


def letter(refused: Refused, *, topic: str, group: str) -> Record:
    """Return the record for the dead letter topic.

    A topic's limit counts compressed bytes, so another producer's record may unpack to more than a dead letter can hold. Its
    dead letter then leaves out the value and the foreign headers: one that Kafka refuses would repeat its batch for ever.
    """
    ours = {REASON, GROUP, ORIGIN, REPLAY, OMITTED_BYTES}
    kept = tuple((name, value) for name, value in refused.record.headers if name not in ours)
    added = (
        (REASON, refused.reason[:REASON_CHARACTERS_MAX].encode()),
        (GROUP, group.encode()),
        (ORIGIN, _origin(refused.record)),
    )
    whole = Record(topic, refused.record.key, refused.record.value, kept + added)
    if bytes_max(whole) <= DEAD_LETTER_BYTES_MAX:
        return whole
    key = refused.record.key if len(refused.record.key) <= FOREIGN_BYTES_MAX else b""
    return Record(topic, key, b"", (*added, (OMITTED_BYTES, b"%d" % len(refused.record.value))))


def _origin(record: Incoming) -> bytes:
    """Return the origin of a record: its place, or for a replayed dead letter the origin that its header names."""
    return record.place.encode() if record.header(REPLAY) is None else record.first_place
