"""A letter's ticket as a Kafka record: what its headers say, and where it goes next; pure.

Enters and leaves: records of `email.retry.*` and `email.dlt`. The value is the ticket's bytes, the key its booking.
"""

from dataclasses import dataclass

import msgspec

from shared import messages
from shared.kafka import dead_letters
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming, Record

DUE = "x-due-ms"  # absolute, milliseconds since the epoch
STEP_DELAY_MS = 1000
UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class Due:
    """One letter to be tried: its ticket, the attempts that the record knows of, and the record that brought it."""

    ticket: messages.LetterTicket
    attempt: int
    replayed: bool
    record: Incoming

    @property
    def origin(self) -> bytes:
        """Where the letter's first record lay, as topic/partition/offset."""
        return _header(self.record, dead_letters.ORIGIN) or self.record.place.encode()


def read(record: Incoming) -> Due | Refused:
    """Return the letter that a ticket is about, or why it cannot be read."""
    try:
        ticket = messages.letter_tickets.decode(record.value)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return Refused(record, UNDECODABLE)
    attempt = _number(record, dead_letters.ATTEMPT)
    return Due(ticket, attempt, _header(record, dead_letters.REPLAY) is not None, record)


def due_ms(record: Incoming) -> int:
    """Return when a ticket is due; one without a readable moment is due at once."""
    return _number(record, DUE)


def later(due: Due, *, topic: str, now_ms: int) -> Record:
    """Return the ticket for the 1 s step, its attempt unchanged."""
    replay = ((dead_letters.REPLAY, b"1"),) if due.replayed else ()
    headers = (
        (dead_letters.ATTEMPT, str(due.attempt).encode()),
        (DUE, str(now_ms + STEP_DELAY_MS).encode()),
        (dead_letters.ORIGIN, due.origin),
    )
    return _record(due, topic, headers + replay)


def dead(due: Due, *, topic: str, group: str, attempts: int, reason: str) -> Record:
    """Return the ticket as a dead letter; `reason` is a stable code with an optional detail after a colon, without PII."""
    headers = (
        (dead_letters.ATTEMPT, str(attempts).encode()),
        (dead_letters.REASON, reason[: dead_letters.REASON_CHARACTERS_MAX].encode()),
        (dead_letters.GROUP, group.encode()),
        (dead_letters.ORIGIN, due.origin),
    )
    return _record(due, topic, headers)


def _record(due: Due, topic: str, headers: tuple[tuple[str, bytes], ...]) -> Record:
    content_type = (("content-type", b"application/json"),)
    key = str(due.ticket.booking_id).encode()
    return Record(topic, key, messages.ticket(due.ticket), due.record.travelling() + content_type + headers)


def _header(record: Incoming, name: str) -> bytes | None:
    return next((value for key, value in record.headers if key == name), None)


def _number(record: Incoming, name: str) -> int:
    value = _header(record, name) or b""
    return int(value) if value.isdigit() and len(value) < 16 else 0  # noqa: PLR2004 - no moment and no count is longer
