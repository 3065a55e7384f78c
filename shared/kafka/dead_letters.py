"""What a dead letter looks like: the same key and bytes, and in its headers why, who refused it and where it lay.

Next: `cb-ops dlt`, which reads these headers.
"""

from dataclasses import dataclass

from shared.kafka.records import ORIGIN, Incoming, Record

REASON = "x-error"
GROUP = "x-group"
ATTEMPT = "x-attempt"
REPLAY = "x-replay"  # set by a replay: only with it a letter that was given up is claimed again
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
    """Return the record for the dead letter topic."""
    kept = tuple((name, value) for name, value in refused.record.headers if name not in {REASON, GROUP, ORIGIN, REPLAY})
    told = (
        (REASON, refused.reason[:REASON_CHARACTERS_MAX].encode()),
        (GROUP, group.encode()),
        (ORIGIN, _origin(refused.record)),
    )
    return Record(topic, refused.record.key, refused.record.value, kept + told)


def _origin(record: Incoming) -> bytes:
    """Return where a record lay first: that of a replay says it, as far as it was a dead letter before."""
    told = record.header(ORIGIN) if record.header(REPLAY) is not None else None
    return told or record.place.encode()
