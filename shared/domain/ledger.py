"""What the payment ledger may say about an event; a public set, since people, dashboards and `cb-ops why` ask for it."""

from enum import StrEnum


class Decision(StrEnum):
    """What became of an event. One line per event, payment and decision, so that a repeat adds nothing.

    What cannot be read as an event has no line: its bytes lie with the dead letters.
    """

    APPLIED = "applied"  # it changed what is shown of the payment
    UNCHANGED = "unchanged"  # understood, and nothing that is shown changed
    DUPLICATE = "duplicate"  # taken before, seen again at another offset
    WAITING = "waiting"  # its payment is not known yet: it waits in `waiting_events`
    QUARANTINED = "quarantined"  # it contradicts its payment, or cannot be stored: a person is told
    UNHANDLED = "unhandled"  # a kind of event that decides nothing here
    DROPPED = "dropped"  # it waited, and was given up by an operator or by age
