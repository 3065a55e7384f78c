"""From Stripe's JSON to a fact of ours, or to a refusal; pure, and a table rather than branches.

Enters: the bytes that Stripe signed. Leaves: an Event with its ids and its fact, or the reason why it cannot be taken.
Shapes: https://docs.stripe.com/api/events/object, in the API versions of shared/stripe_events.py; unknown fields are ignored
and missing ones accepted. Next in the walk: shared/domain/payment.py.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from shared.domain import payment
from shared.domain.payment import ClosedReason, Fact
from shared.messages import DECODING_ERRORS
from shared.stripe_events import Kind

EVENT_ID = re.compile(r"evt_\w{1,200}", re.ASCII)
CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNKNOWN_REASON = "unknown"

# Stripe keeps its ids within 255 characters: https://docs.stripe.com/upgrades, "Backwards-compatible changes". An index of ours
# holds no more than 2700 bytes, and PostgreSQL's error for a longer one does not count as an error of data.
Id = Annotated[str, msgspec.Meta(max_length=255)]


class Problem(msgspec.Struct, frozen=True):
    """The codes of `last_payment_error`; its message is for people and stays with Stripe."""

    code: str | None = None
    decline_code: str | None = None


class Object(msgspec.Struct, frozen=True):
    """Every field of a session, an intent, a charge, a refund or a dispute that decides something."""

    id: Id
    object: str
    status: str | None = None
    payment_status: str | None = None
    payment_intent: Id | None = None
    charge: Id | None = None
    latest_charge: Id | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None
    currency: str | None = None
    amount: int | None = None
    amount_total: int | None = None
    amount_received: int | None = None
    amount_refunded: int | None = None
    last_payment_error: Problem | None = None


class Content(msgspec.Struct, frozen=True):
    """`data` of an event."""

    object: Object


class Body(msgspec.Struct, frozen=True):
    """An event as Stripe sends it; `created` in seconds."""

    id: str
    type: str
    created: int
    data: Content
    api_version: str | None = None


class Head(msgspec.Struct, frozen=True):
    """What even an event of a kind that we do not handle must have."""

    id: str
    type: str
    created: int
    api_version: str | None = None


class Event(msgspec.Struct, frozen=True):
    """An event of Stripe in our words; `fact` is None for a kind that we do not handle.

    `payment_id` and `booking_id` are the UUIDs that its metadata claims, in their canonical form; `currency` (any case) is that
    of the amounts in its fact.
    """

    id: str
    type: str
    created: datetime
    fact: Fact | None
    currency: str | None = None
    payment_id: str | None = None
    booking_id: str | None = None
    session_id: str | None = None
    intent_id: str | None = None
    charge_id: str | None = None
    api_version: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids under which an event that came too early may be waiting for this one, or this one for another.

        It waits under the first of them.
        """
        return tuple([key for key in (self.intent_id, self.session_id, self.charge_id) if key is not None])

    @property
    def ledger_fact(self) -> Mapping[str, object] | None:
        """What the ledger keeps of it: the fact and the currency of its amounts; None when the event changes nothing."""
        if self.fact is None or isinstance(self.fact, payment.Noted):
            return None
        fact: Mapping[str, object] = msgspec.to_builtins(self.fact)
        return fact if self.currency is None else {**fact, "currency": self.currency}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the bytes are no event that we can take; the code is stable, the words are for an operator."""

    reason: str


Present = TypeVar("Present", int, str)
FactOf = Callable[[Body], Fact]


def _paid_session(body: Body) -> Fact:
    session = body.data.object
    if session.payment_status != "paid":
        return payment.Noted()
    return payment.Paid(_required(session.amount_total, "amount_total"), _required(session.currency, "currency"))


def _paid_intent(body: Body) -> Fact:
    intent = body.data.object
    received = intent.amount if intent.amount_received is None else intent.amount_received
    return payment.Paid(_required(received, "amount_received"), _required(intent.currency, "currency"))


def _failed_attempt(body: Body) -> Fact:
    problem = body.data.object.last_payment_error or Problem()
    return payment.Failed(body.created, problem.decline_code or problem.code or UNKNOWN_REASON)


def _closed(reason: ClosedReason) -> FactOf:
    return lambda body: payment.Failed(body.created, str(reason), closes=reason)


def _refund(body: Body) -> Fact:
    refund = body.data.object
    status = _required(refund.status, "status")
    if status not in payment.REFUND_RANK:
        raise msgspec.ValidationError(f"unknown refund status {status}")
    return payment.RefundSeen(refund.id, status, _required(refund.amount, "amount"))


def _charge(body: Body) -> Fact:
    return payment.ChargeRefunded(_required(body.data.object.amount_refunded, "amount_refunded"))


def _dispute(body: Body) -> Fact:
    dispute = body.data.object
    return payment.DisputeSeen(dispute.id, _required(dispute.status, "status"), dispute.amount)


FACTS: Mapping[str, FactOf] = {
    Kind.SESSION_COMPLETED: _paid_session,
    Kind.SESSION_ASYNC_SUCCEEDED: _paid_session,
    Kind.SESSION_ASYNC_FAILED: _closed(ClosedReason.ASYNC_FAILED),
    Kind.SESSION_EXPIRED: _closed(ClosedReason.EXPIRED),
    Kind.INTENT_SUCCEEDED: _paid_intent,
    Kind.INTENT_FAILED: _failed_attempt,
    Kind.INTENT_CANCELED: _closed(ClosedReason.CANCELED),
    Kind.CHARGE_REFUNDED: _charge,
    Kind.REFUND_CREATED: _refund,
    Kind.REFUND_UPDATED: _refund,
    Kind.REFUND_FAILED: _refund,
    Kind.DISPUTE_CREATED: _dispute,
    Kind.DISPUTE_CLOSED: _dispute,
}

_heads = msgspec.json.Decoder(Head)
_bodies = msgspec.json.Decoder(Body)


def translate(value: bytes) -> Event | Refusal:
    """Return the event that these bytes are, or why they are none. Amounts stay in Stripe's minor units."""
    try:
        read = _read(value)
        created = datetime.fromtimestamp(read.created, UTC)
        if not EVENT_ID.fullmatch(read.id):
            return Refusal("no_event_id")
        fact_of = FACTS.get(read.type)
        if fact_of is None or not isinstance(read, Body):
            return Event(read.id, read.type, created, fact=None, api_version=read.api_version)
        return _named(read, created, fact_of(read))
    except msgspec.ValidationError as error:
        return Refusal(f"wrong_shape:{error}")
    except DECODING_ERRORS:
        return Refusal("not_json")
    except (OverflowError, ValueError, OSError):
        return Refusal("created_out_of_range")


def _read(value: bytes) -> Body | Head:
    """Return the whole event; of a kind that we do not handle its head will do, whatever the rest looks like."""
    try:
        return _bodies.decode(value)
    except msgspec.ValidationError:
        head = _heads.decode(value)
        if head.type in FACTS:
            raise
        return head


def _named(body: Body, created: datetime, fact: Fact) -> Event:
    subject = body.data.object
    metadata = subject.metadata or {}
    payment_id = _uuid(metadata.get("payment_id") or subject.client_reference_id)
    booking_id = _uuid(metadata.get("booking_id"))
    return Event(
        id=body.id,
        type=body.type,
        created=created,
        fact=fact,
        currency=subject.currency,
        # The older application's sessions refer to their booking where ours refer to their payment.
        payment_id=payment_id if payment_id != booking_id else None,
        booking_id=booking_id,
        session_id=subject.id if subject.object == "checkout.session" else None,
        intent_id=subject.id if subject.object == "payment_intent" else subject.payment_intent,
        charge_id=subject.id if subject.object == "charge" else subject.charge or subject.latest_charge,
        api_version=body.api_version,
    )


def _required(value: Present | None, name: str) -> Present:
    if value is None:
        raise msgspec.ValidationError(f"{name} is missing")
    return value


def _uuid(text: str | None) -> str | None:
    if text is not None and CANONICAL_UUID.fullmatch(text):
        return text  # canonical, as we write it; parsing and formatting it takes five times as long
    try:
        return str(uuid.UUID(text)) if text else None
    except ValueError:
        return None
