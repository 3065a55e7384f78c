"""How the bookings of a simulation ended, in words that are the same for the same seed; pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from deploy.dev.simulation.books import Paper
from deploy.dev.simulation.rows import Rows

# Of several payments of a booking the one that got furthest tells; a row whose session was never shown tells nothing.
FURTHEST = ("pending", "failed", "succeeded", "refunded")


def count(papers: Iterable[Paper], ours: Rows) -> Counter[str]:
    """Return how many bookings ended in which way."""
    of_payment = {paper.session.payment_id: paper for paper in papers}
    statuses: dict[str, list[str]] = defaultdict(lambda: [FURTHEST[0]])
    marks: dict[str, set[str]] = defaultdict(set)
    for payment in ours.payments:
        statuses[payment.booking_id].append(payment.status)
        if 0 < payment.refunded_minor < payment.amount_minor:
            marks[payment.booking_id].add("in part refunded")
        if (paper := of_payment.get(payment.id)) is not None:
            marks[payment.booking_id] |= {f"dispute {dispute.status}" for dispute in paper.disputes}
            marks[payment.booking_id] |= {f"refund {refund.status}" for refund in paper.refunds if refund.status != "succeeded"}
    return Counter(
        ", ".join((booking.status, max(statuses[booking.id], key=FURTHEST.index), *sorted(marks[booking.id])))
        for booking in ours.bookings
    )


def stripe_ids(papers: Iterable[Paper]) -> list[str]:
    """Return the ids under which an event about these papers would wait for its payment."""
    found: list[str] = []
    for paper in papers:
        found += [paper.session.id, *((paper.intent.id,) if paper.intent else ()), *(charge.id for charge in paper.charges)]
    return found
