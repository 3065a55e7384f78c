"""Stripe's records: sessions, intents, charges, refunds and disputes as its /v1 API lists them.

Enters: the lists' JSON. Leaves: the few fields of each object that a comparison needs. Shapes: https://docs.stripe.com/api.
Next: comparison.py.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

PATHS = {
    "sessions": "/v1/checkout/sessions",
    "intents": "/v1/payment_intents",
    "charges": "/v1/charges",
    "refunds": "/v1/refunds",
    "disputes": "/v1/disputes",
}


@dataclass(frozen=True)
class Session:
    """A checkout session; `payment_id` and `booking_id` are ours, as its metadata says."""

    id: str
    payment_id: str | None
    booking_id: str | None
    status: str
    payment_status: str
    intent_id: str | None
    amount_minor: int
    currency: str


@dataclass(frozen=True)
class Intent:
    """A payment intent; `failed` when its last attempt did."""

    id: str
    status: str
    failed: bool


@dataclass(frozen=True)
class Charge:
    """One attempt to take the money."""

    id: str
    intent_id: str
    status: str
    amount_minor: int
    refunded_minor: int


@dataclass(frozen=True)
class Refund:
    """One refund; `came_back` when it had been given and then failed."""

    id: str
    intent_id: str
    status: str
    amount_minor: int
    came_back: bool


@dataclass(frozen=True)
class Dispute:
    """One dispute."""

    id: str
    intent_id: str
    status: str


@dataclass(frozen=True)
class Paper:
    """All that Stripe has recorded of one checkout: one payment of ours must agree with it."""

    session: Session
    intent: Intent | None = None
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    @property
    def paid(self) -> tuple[Charge, ...]:
        """The charges that took money; more than one is money taken twice."""
        return tuple(charge for charge in self.charges if charge.status == "succeeded")

    @property
    def refunded_minor(self) -> int:
        """The amount that was refunded and did not come back."""
        return sum(charge.refunded_minor for charge in self.paid)

    @property
    def given_back_once(self) -> bool:
        """Whether all of it was ever refunded, even if a refund came back later: then the booking is cancelled."""
        came_back = max((refund.amount_minor for refund in self.refunds if refund.came_back), default=0)
        return bool(self.paid) and max(self.refunded_minor, came_back) >= self.session.amount_minor


def papers(lists: Mapping[str, Iterable[Json]], bookings: Collection[str]) -> tuple[Paper, ...]:
    """Return what these lists (by the names of PATHS) tell of these bookings, one paper a session."""
    sessions = [session for one in lists["sessions"] if (session := _session(one)).booking_id in bookings]
    intents = {one["id"]: _intent(one) for one in lists["intents"]}
    charges = [_charge(one) for one in lists["charges"]]
    refunds = [_refund(one) for one in lists["refunds"]]
    disputes = [Dispute(one["id"], one["payment_intent"], one["status"]) for one in lists["disputes"]]
    return tuple(
        Paper(
            session,
            intents.get(session.intent_id or ""),
            tuple(charge for charge in charges if charge.intent_id == session.intent_id),
            tuple(refund for refund in refunds if refund.intent_id == session.intent_id),
            tuple(dispute for dispute in disputes if dispute.intent_id == session.intent_id),
        )
        for session in sessions
    )


def _session(one: Json) -> Session:
    ours = one["metadata"] or {}
    return Session(
        id=one["id"],
        payment_id=ours.get("payment_id"),
        booking_id=ours.get("booking_id"),
        status=one["status"],
        payment_status=one["payment_status"],
        intent_id=one["payment_intent"],
        amount_minor=one["amount_total"],
        currency=one["currency"].upper(),
    )


def _intent(one: Json) -> Intent:
    return Intent(one["id"], one["status"], failed=one["last_payment_error"] is not None)


def _charge(one: Json) -> Charge:
    return Charge(one["id"], one["payment_intent"], one["status"], one["amount"], one["amount_refunded"])


def _refund(one: Json) -> Refund:
    came_back = one["status"] == "failed" and one.get("failure_balance_transaction") is not None
    return Refund(one["id"], one["payment_intent"], one["status"], one["amount"], came_back)
