"""What must be true of payments and bookings, told from the set of Stripe's events that were delivered; never from their order.

It shares no code with the product (tests/architecture holds it to the standard library): the rules are written a second
time, over sets, where the product folds one event after another. Enters: the rows as checkout left them, and the events as
Stripe sent them (dicts). Leaves: the truth of each payment, what became of each event, and complaints about a booking's story.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

REFUND_RANK = {"pending": 0, "requires_action": 1, "succeeded": 2, "failed": 3, "canceled": 3}
DISPUTE_OVER = {"won", "lost", "warning_closed", "prevented"}
CLOSES = {
    "checkout.session.expired": "expired",
    "payment_intent.canceled": "canceled",
    "checkout.session.async_payment_failed": "async_failed",
}
CLOSED_RANK = ["expired", "canceled", "async_failed", "refunded"]
SESSION_PAID = {"checkout.session.completed", "checkout.session.async_payment_succeeded"}
REFUND = {"refund.created", "refund.updated", "refund.failed"}
DISPUTE = {"charge.dispute.created", "charge.dispute.closed"}
FAILURES = {"payment_intent.payment_failed", *CLOSES}
HANDLED = {"payment_intent.succeeded", "charge.refunded"} | FAILURES | SESSION_PAID | REFUND | DISPUTE


@dataclass(frozen=True)
class Row:
    """A payment before any event: as checkout made it, or as the older application left it (`older_status`)."""

    payment_id: str
    booking_id: str
    amount_minor: int
    currency: str
    session_id: str | None = None
    intent_id: str | None = None
    older_status: str | None = None
    closed_by_checkout: bool = False


@dataclass(frozen=True)
class Truth:
    """How a payment ends. `data` is what the newest message shows but its version; `closed` whether a checkout may follow."""

    data: Mapping[str, object]
    intent_id: str | None
    closed: bool


@dataclass(frozen=True)
class World:
    """Every payment's end, and each event's: which payment took it, why it was refused, or that it waits or is unhandled."""

    payments: Mapping[str, Truth]
    taken: Mapping[str, str]
    refused: Mapping[str, str]
    waiting: frozenset[str]
    unhandled: frozenset[str]


def judge(rows: Iterable[Row], delivered: Iterable[Mapping]) -> World:
    """Say how everything ends once this set of events was delivered; copies count as one."""
    by_id = {row.payment_id: row for row in rows}
    events = {event["id"]: event for event in delivered}
    left = {i: event for i, event in events.items() if event["type"] in HANDLED and _names(event)}
    unhandled = frozenset(events.keys() - left.keys())
    owner = {key: row.payment_id for row in by_id.values() for key in (row.session_id, row.intent_id) if key}
    taken, refused, told = {}, {}, defaultdict(list)
    found = True
    # An event that names a payment and an intent tells whose intent it is; that may tell whose the next one is.
    while found:
        found = False
        for event_id, event in list(left.items()):
            row = by_id.get(_claimed(event) or "") or next((by_id[owner[k]] for k in _keys(event) if k in owner), None)
            if row is None:
                continue
            found = True
            del left[event_id]
            if reason := _mismatch(event, row):
                refused[event_id] = reason
                continue
            taken[event_id] = row.payment_id
            told[row.payment_id].append(event)
            owner |= dict.fromkeys(_keys(event), row.payment_id)
    payments = {payment_id: truth(row, told[payment_id]) for payment_id, row in by_id.items()}
    return World(payments, taken, refused, frozenset(left), unhandled)


def truth(row: Row, told: Iterable[Mapping]) -> Truth:
    """Say how a payment ends that took this set of events."""
    events = list(told)
    paid_before = row.older_status in {"succeeded", "refunded"}
    paid_by = [event for event in events if _is_paid(event)]
    paid = bool(paid_by) or paid_before
    failures = [
        (event["created"], CLOSES.get(event["type"]) or _decline(event)) for event in events if event["type"] in FAILURES
    ]
    refunded, cancel_due = _given_back(row, events)
    closings = {CLOSES[event["type"]] for event in events if event["type"] in CLOSES} | ({"refunded"} if cancel_due else set())
    older = {row.intent_id} if row.intent_id and row.older_status else set()
    intents = {_intent(event) for event in events} - {None} | older
    paying = {_intent(event) for event in paid_by} - {None} | (older if paid_before else set())
    data = {
        "payment_id": row.payment_id,
        "booking_id": row.booking_id,
        "status": _status(row, refunded, paid=paid, failed=bool(failures) or row.older_status == "failed"),
        "paid": paid,
        "cancel_due": cancel_due,
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "amount_refunded_minor": refunded,
        "failure_reason": max(failures)[1] if failures else None,
        "dispute_open": _is_disputed(events),
        "closed_reason": max(closings, key=CLOSED_RANK.index, default=None),
        "slot_free": bool(closings) and not (row.closed_by_checkout or paid or cancel_due),
    }
    return Truth(data, min(paying or intents, default=None), closed=bool(closings) or row.closed_by_checkout)


def _given_back(row: Row, events: Iterable[Mapping]) -> tuple[int, bool]:
    """How much of the money is back now, and whether all of it ever was."""
    refunds, charged_back = defaultdict(list), row.amount_minor if row.older_status == "refunded" else 0
    for event in events:
        about = event["data"]["object"]
        if event["type"] in REFUND:
            refunds[about["id"]].append((REFUND_RANK[about["status"]], about["status"], about["amount"]))
        elif event["type"] == "charge.refunded":
            charged_back = max(charged_back, about["amount_refunded"])
    ends = [(max(seen)[1], seen[0][2]) for seen in refunds.values()]
    standing = sum(amount for status, amount in ends if status == "succeeded")
    undone = sum(amount for status, amount in ends if status in {"failed", "canceled"})
    largest = max((amount for seen in refunds.values() for _, status, amount in seen if status == "succeeded"), default=0)
    back = sorted((0, max(standing, charged_back - undone), row.amount_minor))[1]
    return back, max(charged_back, largest) >= row.amount_minor > 0


def _status(row: Row, refunded: int, *, paid: bool, failed: bool) -> str:
    if refunded >= row.amount_minor > 0:
        return "refunded"
    if paid:
        return "succeeded"
    return "failed" if failed else "pending"


def _is_disputed(events: Iterable[Mapping]) -> bool:
    disputes = defaultdict(set)
    for event in events:
        if event["type"] in DISPUTE:
            disputes[event["data"]["object"]["id"]].add(event["data"]["object"]["status"])
    return any(not (statuses & DISPUTE_OVER) for statuses in disputes.values())


@dataclass(frozen=True)
class Booking:
    """A booking before any message: its status, the payment that holds it, and those whose money it knows since long ago."""

    booking_id: str
    status: str = "pending"
    payment_id: str | None = None
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Told:
    """One message about a booking."""

    name: str
    payment_id: str
    reason: str | None


@dataclass
class Ending:
    """Where a booking's story leads, whose money it judged, and what is wrong with the story."""

    status: str
    payment_id: str | None
    judged: set[str]
    complaints: list[str] = field(default_factory=list)


def follow(booking: Booking, payments: Mapping[str, Truth], story: Sequence[Told]) -> Ending:
    """Replay what was told of a booking, in the order of its versions, and hold it against the truth of its payments.

    Which of two paid payments holds a booking is up to order; that the story is one that the rules allow, and that
    nothing is missing from it, is not.
    """
    end = Ending(booking.status, booking.payment_id, set(booking.settled))
    for told in story:
        known = payments.get(told.payment_id)
        if known is None:
            end.complaints.append(f"{told}: no payment of this booking")
        elif told.name == "booking.cancelled":
            _replay_cancelled(end, told, known)
        else:
            _replay_paid(end, told, known)
    for payment_id, known in payments.items():
        if known.data["cancel_due"]:
            if end.status in {"pending", "confirmed"} and end.payment_id in {None, payment_id}:
                end.complaints.append(f"{payment_id} was given back, and its booking stands")
        elif known.data["paid"] and payment_id not in end.judged:
            end.complaints.append(f"{payment_id} is paid, and nobody was told")
    return end


def confirms_never(row: Row, applied: Iterable[Mapping]) -> bool:
    """Tell from the ledger's order whether the payment was fully given back before it was paid: then no letter is due."""
    seen = []
    for event in applied:
        seen.append(event)
        known = truth(row, seen).data
        if known["paid"]:
            return bool(known["cancel_due"])
    return True


def _replay_cancelled(end: Ending, told: Told, known: Truth) -> None:
    held_by_nobody = end.payment_id is None and end.judged <= {told.payment_id}
    if not known.data["cancel_due"] or end.status not in {"pending", "confirmed"}:
        end.complaints.append(f"{told} while {end.status}")
    if end.payment_id != told.payment_id and not held_by_nobody:
        end.complaints.append(f"{told}, but held by {end.payment_id}")
    end.status = "cancelled"
    # Every newer message of this payment says that it was given back; an older one is no news.
    end.judged.add(told.payment_id)


def _replay_paid(end: Ending, told: Told, known: Truth) -> None:
    if not known.data["paid"] or told.payment_id in end.judged:
        end.complaints.append(f"{told}: unpaid, or judged before")
    end.judged.add(told.payment_id)
    if (told.name, told.reason) != _due(end):
        end.complaints.append(f"{told} where {_due(end)} was due")
    if told.name == "booking.confirmed":
        end.status, end.payment_id = "confirmed", told.payment_id


def _due(booking: Ending) -> tuple[str, str | None]:
    if booking.status == "pending" or (booking.status == "confirmed" and booking.payment_id is None):
        return "booking.confirmed", None
    return "booking.payment_conflict", "already_paid" if booking.status == "confirmed" else booking.status


def _is_paid(event: Mapping) -> bool:
    if event["type"] in SESSION_PAID:
        return event["data"]["object"].get("payment_status") == "paid"
    return event["type"] == "payment_intent.succeeded"


def _mismatch(event: Mapping, row: Row) -> str | None:
    about = event["data"]["object"]
    if _claimed(event) not in {None, row.payment_id}:
        return "payment_mismatch"
    if (about.get("metadata") or {}).get("booking_id") not in {None, row.booking_id}:
        return "booking_mismatch"
    if not _is_paid(event):
        return None
    if about["currency"].upper() != row.currency:
        return "currency_mismatch"
    amount = about["amount_received"] if event["type"] == "payment_intent.succeeded" else about["amount_total"]
    return None if amount == row.amount_minor else "amount_mismatch"


def _claimed(event: Mapping) -> str | None:
    about = event["data"]["object"]
    named = about.get("metadata") or {}
    claimed = named.get("payment_id") or about.get("client_reference_id")
    return claimed if claimed != named.get("booking_id") else None


def _intent(event: Mapping) -> str | None:
    about = event["data"]["object"]
    return about["id"] if about["object"] == "payment_intent" else about.get("payment_intent")


def _keys(event: Mapping) -> list[str]:
    """Session, intent, charge: the ids by which an event finds its payment, in this order."""
    about = event["data"]["object"]
    session = about["id"] if about["object"] == "checkout.session" else None
    charge = about["id"] if about["object"] == "charge" else about.get("charge")
    return [key for key in (session, _intent(event), charge) if key]


def _names(event: Mapping) -> bool:
    return bool(_keys(event) or _claimed(event))


def _decline(event: Mapping) -> str:
    problem = event["data"]["object"].get("last_payment_error") or {}
    return problem.get("decline_code") or problem.get("code") or "unknown"
