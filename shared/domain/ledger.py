"""The decisions that the payment ledger records; a public set, since people, dashboards and `cb-ops why` use it."""

from enum import StrEnum


class Decision(StrEnum):
    """What became of an event. One line per event, payment and decision, so that a repeat adds nothing.

    Bytes that cannot be read as an event have no line: they are kept in the dead letters.
    """

    APPLIED = "applied"  # it changed what is shown of the payment
    UNCHANGED = "unchanged"  # understood, and nothing that is shown changed
    DUPLICATE = "duplicate"  # taken before, seen again at another offset
    WAITING = "waiting"  # its payment is not known yet: it waits in `waiting_events`
    QUARANTINED = "quarantined"  # it contradicts its payment, or cannot be stored: an operator is notified
    UNHANDLED = "unhandled"  # a kind of event that decides nothing here
    DROPPED = "dropped"  # it waited, and was given up by an operator or by age
