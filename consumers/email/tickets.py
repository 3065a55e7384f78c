"""A letter's ticket as a Kafka record: what its headers say, and where it goes next; pure.

Enters and leaves: records of `email.retry.*` and `email.dlt`. The value is the ticket's bytes, the key its booking. When a
step's ticket is due says shared/kafka/retry.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared import messages
from shared.kafka import dead_letters, retry
from shared.kafka.dead_letters import Refused
from shared.kafka.records import ORIGIN, Incoming, Record
from shared.kafka.retry import Step

UNDECODABLE = "undecodable"
LOOKS = "x-looks"
LOOKS_DIGITS_MAX = 9  # as many as of attempts
UNDECIDED_SECONDS_MAX = 3600  # consumers that were away may take minutes until they have read what they missed


@dataclass(frozen=True, slots=True)
class DueLetter:
    """One letter to be tried: its ticket, what its record counts, and the record that brought it.

    `attempt`: how often the mail server judged it; `looks`: how often in a row it was looked at and found undecided.
    """

    ticket: messages.LetterTicket
    attempt: int
    replayed: bool
    record: Incoming
    looks: int = 0

    def claimed(self, attempts: int) -> "DueLetter":
        """Return the letter as claimed after so many attempts: the claim has used up a replay."""
        return replace(self, attempt=attempts, replayed=False)


def read(record: Incoming) -> DueLetter | Refused:
    """Return the letter that a ticket is about, or why it cannot be read."""
    try:
        ticket = messages.letter_tickets.decode(record.value)
    except messages.DECODING_ERRORS:
        return Refused(record, UNDECODABLE)
    attempt = dead_letters.attempts(record) or 0
    return DueLetter(ticket, attempt, record.header(dead_letters.REPLAY) is not None, record, _looks(record))


def later(due: DueLetter, step: Step, *, now_ms: int) -> Record:
    """Return the ticket for a step, attempts unchanged: it is under a lease. A replay that claimed nothing stays one."""
    return _record(due, step.topic, (*_climbing(due, step, attempts=due.attempt, now_ms=now_ms), *_replay(due)))


def undecided(due: DueLetter, ladder: Sequence[Step], *, now_ms: int) -> tuple[Record, Step]:
    """Return the ticket of a letter that is still undecided, attempts unchanged, and its step: a later one at each look."""
    step = ladder[min(due.looks, len(ladder) - 1)]
    looks = ((LOOKS, str(due.looks + 1).encode()),)
    headers = (*_climbing(due, step, attempts=due.attempt, now_ms=now_ms), *_replay(due), *looks)
    return _record(due, step.topic, headers), step


def undecided_for_long(due: DueLetter, ladder: Sequence[Step]) -> bool:
    """Return whether it is at this look, and was not at the one before, that a letter has been undecided for too long."""
    return _waited_seconds(due.looks - 1, ladder) < UNDECIDED_SECONDS_MAX <= _waited_seconds(due.looks, ladder)


def tried(due: DueLetter, step: Step, *, attempts: int, reason: str, now_ms: int) -> Record:
    """Return the ticket for a step after so many attempts, the last of which failed for `reason`."""
    why = ((dead_letters.REASON, _header_of(reason)),)
    return _record(due, step.topic, (*_climbing(due, step, attempts=attempts, now_ms=now_ms), *why))


def dead_letter(due: DueLetter, *, topic: str, group: str, attempts: int, reason: str) -> Record:
    """Return the ticket as a dead letter; `reason` is a stable code with an optional detail after a colon, without PII."""
    headers = (
        (dead_letters.ATTEMPT, str(attempts).encode()),
        (dead_letters.REASON, _header_of(reason)),
        (dead_letters.GROUP, group.encode()),
        (ORIGIN, due.record.first_place),
    )
    return _record(due, topic, headers)


def _looks(record: Incoming) -> int:
    """Return how often an undecided letter was looked at, by its ticket; 0 where the ticket does not say so."""
    value = record.header(LOOKS) or b""
    return int(value) if value.isdigit() and len(value) <= LOOKS_DIGITS_MAX else 0


def _waited_seconds(looks: int, ladder: Sequence[Step]) -> int:
    """Return how long a letter has waited that was found undecided so often."""
    climbed = ladder[: max(looks, 0)]
    return sum(step.delay_seconds for step in climbed) + max(looks - len(climbed), 0) * ladder[-1].delay_seconds


def _replay(due: DueLetter) -> tuple[tuple[str, bytes], ...]:
    return ((dead_letters.REPLAY, b"1"),) if due.replayed else ()


def _climbing(due: DueLetter, step: Step, *, attempts: int, now_ms: int) -> tuple[tuple[str, bytes], ...]:
    return (
        (dead_letters.ATTEMPT, str(attempts).encode()),
        (retry.DUE, str(step.due_ms(now_ms)).encode()),
        (ORIGIN, due.record.first_place),
    )


def _header_of(reason: str) -> bytes:
    return reason[: dead_letters.REASON_CHARACTERS_MAX].encode()


def _record(due: DueLetter, topic: str, headers: tuple[tuple[str, bytes], ...]) -> Record:
    content_type = (("content-type", b"application/json"),)
    key = str(due.ticket.booking_id).encode()
    return Record(topic, key, messages.ticket(due.ticket), due.record.travelling() + content_type + headers)
