"""What a dead letter looks like: the same key and bytes, and in its headers why, who refused it and where it lay.

Next: `cb-ops dlt`, which reads these headers.
"""

from dataclasses import dataclass

from shared.kafka.records import FOREIGN_BYTES_MAX, ORIGIN, Incoming, Record
from shared.topics import DEAD_LETTER_BYTES_MAX

REASON = "x-error"
GROUP = "x-group"
ATTEMPT = "x-attempt"
REPLAY = "x-replay"  # set by a replay: only with it a letter that was given up is claimed again
OMITTED_BYTES = "x-omitted-bytes"  # how many bytes the value has where it lay first; here it has none
REASON_CHARACTERS_MAX = 200
ATTEMPTS_DIGITS_MAX = 9  # nobody tries more often, and int() takes time over thousands of digits


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that will not be taken; `reason` is a stable code with an optional detail after a colon, without PII."""

    record: Incoming
    reason: str

    @property
    def code(self) -> str:
        """The reason's stable part, fit for a metric's label."""
        return self.reason.partition(":")[0]


def attempts(record: Incoming) -> int | None:
    """Return how often a letter was tried before this record, by its header; None where nobody counted readably."""
    value = record.header(ATTEMPT) or b""
    return int(value) if value.isdigit() and len(value) <= ATTEMPTS_DIGITS_MAX else None


def letter(refused: Refused, *, topic: str, group: str) -> Record:
    """Return the record for the dead letter topic.

    A topic's limit counts compressed bytes, so a stranger's record may unpack to more than any dead letter holds. Its letter
    then leaves out the value and the foreign headers: refused it would repeat its batch for ever.
    """
    ours = {REASON, GROUP, ORIGIN, REPLAY, OMITTED_BYTES}
    kept = tuple((name, value) for name, value in refused.record.headers if name not in ours)
    told = (
        (REASON, refused.reason[:REASON_CHARACTERS_MAX].encode()),
        (GROUP, group.encode()),
        (ORIGIN, _origin(refused.record)),
    )
    whole = Record(topic, refused.record.key, refused.record.value, kept + told)
    if whole.bytes_max <= DEAD_LETTER_BYTES_MAX:
        return whole
    key = refused.record.key if len(refused.record.key) <= FOREIGN_BYTES_MAX else b""
    return Record(topic, key, b"", (*told, (OMITTED_BYTES, b"%d" % len(refused.record.value))))


def _origin(record: Incoming) -> bytes:
    """Return where a record lay first: that of a replay says it, as far as it was a dead letter before."""
    return record.place.encode() if record.header(REPLAY) is None else record.first_place
