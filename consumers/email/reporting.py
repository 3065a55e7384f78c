"""What became of a letter, as a log line and as a count; an operator reads both.

Enters: a letter's ticket, and what became of it. Leaves: one line with the letter's ids, one more in the metric `letters`.
"""

from consumers.email.tickets import DueLetter
from shared import logs, metrics

log = logs.get(__name__)


def log_letter(due: DueLetter, event: str, **fields: object) -> None:
    """Log what became of a letter; `fields` are of those that shared/logs.py prints."""
    ticket = due.ticket
    log.info(
        event, letter_id=str(ticket.letter_id), booking_id=str(ticket.booking_id), kind=ticket.kind, role=ticket.role, **fields
    )


def count_letter(due: DueLetter, outcome: str) -> None:
    """Count a letter that ended, or is to be tried again, by its kind and role."""
    metrics.letters.labels(due.ticket.kind, due.ticket.role, outcome).inc()
