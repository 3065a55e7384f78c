"""Compares what other services read in our topics, and customers in our API, with what is true. Pure.

Enters: Stripe's papers, our rows, the messages of a simulation, what `GET /payment/{id}` shows at its end. Leaves: a Difference
for each payment or booking of which something else was told than what is true. Messages are read by their contract
(docs/topics), as a stranger does: the greatest version counts. Next: show.py.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from deploy.dev.simulation.books import Paper
from deploy.dev.simulation.comparison import DISPUTE_OVER, NOTHING, Difference, statuses, why
from deploy.dev.simulation.persons import DECIMALS
from deploy.dev.simulation.rows import Booking, Payment, Rows

Json = dict[str, Any]
Messages = Mapping[str, Json]


def newest(values: Iterable[bytes]) -> Messages:
    """Return the `data` with the greatest version for each subject of these messages."""
    known: dict[str, Json] = {}
    for value in values:
        message = json.loads(value)
        if message["data"]["version"] > known.get(message["subject"], {"version": -1})["version"]:
            known[message["subject"]] = message["data"]
    return known


def compare(
    papers: Iterable[Paper], ours: Rows, *, payments: Messages, bookings: Messages, shown: Messages
) -> Iterator[Difference]:
    """Yield every difference; each mapping is by the id of what it tells of, `shown` holds the API's answers."""
    by_payment = {paper.session.payment_id: paper for paper in papers}
    for payment in ours.payments:
        paper = by_payment.get(payment.id)
        if paper is None:
            continue  # nobody could pay there, which is compared by itself
        yield from _announced(payment, paper, payments.get(payment.id))
        yield from _shown(payment, paper, shown[payment.id])
    for booking in ours.bookings:
        yield from _followed(booking, bookings.get(booking.id))


def _announced(payment: Payment, paper: Paper, data: Json | None) -> Iterator[Difference]:
    wanted: Json = {
        "paid": bool(paper.paid),
        "cancel_due": paper.given_back_once,
        "amount_refunded_minor": paper.refunded_minor,
        "dispute_open": any(dispute.status not in DISPUTE_OVER for dispute in paper.disputes),
    }
    ask = why(payment.id)
    if data is None:
        # Before the first change there is nothing to tell.
        if "pending" not in statuses(paper) or any(wanted.values()):
            yield Difference("payments.events", _spelled(wanted), NOTHING, ask)
        return
    wanted |= {"amount_minor": payment.amount_minor, "currency": payment.currency, "booking_id": payment.booking_id}
    if data["status"] not in statuses(paper):
        yield Difference("payments.events", " or ".join(sorted(statuses(paper))), data["status"], ask)
    # Whoever holds a slot for a paid booking must never be told to free it.
    wanted |= {"slot_free": False} if paper.paid else {}
    wrong = {name: value for name, value in wanted.items() if data[name] != value}
    if wrong:
        yield Difference("payments.events", _spelled(wrong), _spelled({name: data[name] for name in wrong}), ask)


def _shown(payment: Payment, paper: Paper, answer: Json) -> Iterator[Difference]:
    asked, back = (Decimal(minor).scaleb(-DECIMALS[payment.currency]) for minor in (payment.amount_minor, paper.refunded_minor))
    ask = why(payment.id)
    if answer.get("status") not in statuses(paper):
        yield Difference("GET /payment", " or ".join(sorted(statuses(paper))), str(answer.get("status", answer)), ask)
        return
    told = (Decimal(str(answer["amount"])), Decimal(str(answer["amount_refunded"])), answer["currency"])
    if told != (asked, back, payment.currency):
        yield Difference("GET /payment", f"{back} of {asked} {payment.currency} refunded", "{1} of {0} {2}".format(*told), ask)


def _followed(booking: Booking, data: Json | None) -> Iterator[Difference]:
    said = data["status"] if data else "pending"
    if said != booking.status:
        yield Difference("bookings.events", booking.status, said if data else NOTHING, why(booking.id))


def _spelled(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
