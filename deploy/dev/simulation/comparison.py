"""Compares Stripe's records, our database and the mailbox. Pure.

Enters: what each of the three says once everything is quiet. Leaves: a Difference for everything that does not fit, with the
command that explains ours. What only the order of arrival decides (whether a letter was still wanted) fits either way. Next:
letters.py compares letters, show.py shows differences.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from deploy.dev.simulation.books import Paper
from deploy.dev.simulation.rows import Booking, Payment, Rows

NOTHING = "nothing"
DISPUTE_OVER = frozenset({"won", "lost", "warning_closed", "prevented"})
REFUND_UNDONE = frozenset({"failed", "canceled"})


@dataclass(frozen=True)
class Difference:
    """A difference, as each side states it; `ask` is the command that explains ours."""

    what: str
    stripe_says: str
    we_say: str
    ask: str


def why(asked: str) -> str:
    """Return the command that tells the whole story of a booking, of a payment, or of something of Stripe's."""
    return f"cb-ops why {asked}"


def compare(papers: Iterable[Paper], ours: Rows, prices: Mapping[str, tuple[int, str]]) -> Iterator[Difference]:
    """Yield every difference about money and bookings; `prices` tells what each booking costs (minor units, currency)."""
    by_payment: dict[str | None, Paper] = {}
    payments = {payment.id for payment in ours.payments}
    for paper in papers:
        named = paper.session.payment_id
        if named not in payments or named in by_payment:
            other = by_payment[named].session.id if named in by_payment else NOTHING
            yield Difference("session", paper.session.id, other, why(paper.session.id))
        else:
            by_payment[named] = paper
    for payment in ours.payments:
        yield from _payment(payment, by_payment.get(payment.id), prices[payment.booking_id])
    yield from _refunds(by_payment.values(), ours)
    yield from _disputes(by_payment.values(), ours)
    of_booking: dict[str, list[Paper]] = defaultdict(list)
    for paper in by_payment.values():
        of_booking[paper.session.booking_id or ""].append(paper)
    kept = {booking.id: booking for booking in ours.bookings}
    for booking_id in prices:
        if booking_id in kept:
            yield from _booking(kept[booking_id], of_booking[booking_id])
        else:
            yield Difference("booking", "was booked", NOTHING, why(booking_id))
    yield from _matters(of_booking, ours)
    for one in ours.waiting:
        yield Difference(
            "event that waits", f"{one.event_id} about {one.object_key}", "waits for its payment", why(one.event_id)
        )


def statuses(paper: Paper) -> frozenset[str]:
    """Return the payment statuses that fit what Stripe holds."""
    if paper.paid:
        return frozenset({"refunded" if paper.refunded_minor >= paper.session.amount_minor else "succeeded"})
    tried = any(charge.status == "failed" for charge in paper.charges)
    ended = paper.session.status == "expired"
    if tried or ended or (paper.intent is not None and (paper.intent.failed or paper.intent.status == "canceled")):
        return frozenset({"failed"})
    if paper.intent is not None and paper.intent.status == "requires_action":
        # An attempt that failed at the bank leaves no charge, and the next one takes its error away.
        return frozenset({"pending", "failed"})
    return frozenset({"pending"})


def _payment(payment: Payment, paper: Paper | None, price: tuple[int, str]) -> Iterator[Difference]:
    asked = (payment.amount_minor, payment.currency)
    ask = why(payment.id)
    yield from _unless_same("price of the booking", _money(*price), _money(*asked), ask)
    if paper is None:
        # A row whose session Stripe never made, or whose making was never answered: nobody could pay there.
        if payment.session_id is not None or payment.status != "pending":
            yield Difference("payment", NOTHING, f"{payment.status}, session {payment.session_id}", ask)
        return
    session = paper.session
    yield from _unless_same("amount asked", _money(session.amount_minor, session.currency), _money(*asked), ask)
    yield from _unless_same("refunded", str(paper.refunded_minor), str(payment.refunded_minor), ask)
    yield from _unless_one_of("status", statuses(paper), payment.status, ask)
    # A session that was made twice over, because its answer got lost, is shown to nobody and paid by nobody.
    yield from _unless_one_of("session", {session.id} if paper.intent else {session.id, None}, payment.session_id, ask)
    yield from _unless_one_of(
        "intent", {session.intent_id} if paper.paid else {session.intent_id, None}, payment.intent_id, ask
    )
    taken = sum(charge.amount_minor for charge in paper.paid)
    if paper.paid and (len(paper.paid), taken) != (1, session.amount_minor):
        yield Difference("money taken", f"{len(paper.paid)} charges, {taken}", str(payment.amount_minor), ask)


def _unless_same(what: str, told: str, kept: str, ask: str) -> Iterator[Difference]:
    if told != kept:
        yield Difference(what, told, kept, ask)


def _unless_one_of(what: str, told: Collection[str | None], kept: str | None, ask: str) -> Iterator[Difference]:
    if kept not in told:
        yield Difference(what, " or ".join(sorted(one or NOTHING for one in told)), kept or NOTHING, ask)


def _refunds(papers: Iterable[Paper], ours: Rows) -> Iterator[Difference]:
    told = {refund.id: f"{refund.status}, {refund.amount_minor}" for paper in papers for refund in paper.refunds}
    kept = {refund.id: f"{refund.status}, {refund.amount_minor}" for refund in ours.refunds}
    yield from _each("refund", told, kept)


def _disputes(papers: Iterable[Paper], ours: Rows) -> Iterator[Difference]:
    told = {dispute.id: _dispute(dispute.status) for paper in papers for dispute in paper.disputes}
    kept = {dispute.id: _dispute(dispute.status) for dispute in ours.disputes}
    yield from _each("dispute", told, kept)


def _each(what: str, told: Mapping[str, str], kept: Mapping[str, str]) -> Iterator[Difference]:
    for one in {**told, **kept}:
        yield from _unless_same(what, told.get(one, NOTHING), kept.get(one, NOTHING), why(one))


def _dispute(status: str) -> str:
    """Return the status as far as both sides tell it: which step an open dispute is at reaches nobody."""
    return status if status in DISPUTE_OVER else "open"


def _booking(booking: Booking, papers: Iterable[Paper]) -> Iterator[Difference]:
    paid = [paper for paper in papers if paper.paid]
    holding = {str(paper.session.payment_id) for paper in paid if not paper.given_back_once}
    payers = {str(paper.session.payment_id) for paper in paid}
    said = f"{booking.status}, paid by {booking.payment_id or 'nobody'}"
    if not paid:
        fits, wanted = (booking.status, booking.payment_id) == ("pending", None), "pending, paid by nobody"
    elif holding:
        # Of several payments the first holds the booking; when that one was given back, the booking is off.
        holders = {"confirmed": holding, "cancelled": payers - holding}
        fits = booking.payment_id in holders.get(booking.status, set())
        wanted = f"confirmed, paid by {' or '.join(sorted(holding))}"
    else:
        fits, wanted = booking.status == "cancelled" and booking.payment_id in {*payers, None}, "cancelled, all given back"
    if not fits:
        yield Difference("booking", wanted, said, why(booking.id))


def _matters(of_booking: Mapping[str, list[Paper]], ours: Rows) -> Iterator[Difference]:
    open_ones = Counter((matter.aggregate, matter.reason) for matter in ours.matters)
    for booking_id, papers in of_booking.items():
        several = sum(bool(paper.paid) for paper in papers) > 1
        about = f"booking:{booking_id}"
        yield from _told(open_ones, about, booking_id, due={"payment_conflict:already_paid"} if several else set())
        for paper in papers:
            yield from _told(open_ones, f"payment:{paper.session.payment_id}", str(paper.session.payment_id), _due(paper))
    for aggregate, reason in open_ones:
        yield Difference("matter for a person", NOTHING, reason, why(aggregate.partition(":")[2]))


def _told(open_ones: Counter[tuple[str, str]], aggregate: str, ask: str, due: set[str]) -> Iterator[Difference]:
    """Take what is due away, so that what is not is left."""
    for reason in due:
        if open_ones.pop((aggregate, reason), 0) == 0:
            yield Difference("matter for a person", reason, NOTHING, why(ask))


def _due(paper: Paper) -> set[str]:
    """Return the reasons for which a matter must have been opened."""
    undone = any(refund.status in REFUND_UNDONE for refund in paper.refunds)
    lost = any(dispute.status == "lost" for dispute in paper.disputes)
    due = {"dispute_opened": paper.disputes, "dispute_lost": lost, "refund_failed": undone}
    return {reason for reason, is_due in due.items() if is_due}


def _money(amount_minor: int, currency: str) -> str:
    return f"{amount_minor} {currency}"
