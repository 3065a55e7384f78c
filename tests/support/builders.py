"""Things that tests need many of, each with a plain default: people, bookings, payments, Stripe's events, records."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from shared import clock, messages
from shared.domain.payment import Payment
from shared.kafka.records import Incoming

# Ahead for as long as anybody runs the tests: money that comes after a session is a matter for a person.
SESSION_AT = datetime(2127, 3, 1, 10)  # noqa: DTZ001 - CultureBridge's column has no zone
_numbers = count(1)


@dataclass(frozen=True)
class Sale:
    """One booking with its open payment and the ids that Stripe would give them."""

    payment_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    booking_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    coach_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    amount_minor: int = 7500
    currency: str = "USD"
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:16])

    @property
    def intent_id(self):
        return f"pi_3{self.tag}00000000"

    @property
    def session_id(self):
        return f"cs_test_{self.tag}"

    @property
    def metadata(self):
        return {"payment_id": self.payment_id, "booking_id": self.booking_id}

    def payment(self, **changes):
        return Payment(
            **{
                "id": self.payment_id,
                "booking_id": self.booking_id,
                "amount_minor": self.amount_minor,
                "currency": self.currency,
                **changes,
            }
        )

    def completed(self, **changes):
        session = {
            "id": self.session_id,
            "object": "checkout.session",
            "payment_intent": self.intent_id,
            "payment_status": "paid",
            "status": "complete",
            "amount_total": self.amount_minor,
            "currency": self.currency.lower(),
            "client_reference_id": self.payment_id,
            "metadata": self.metadata,
        }
        return stripe_event("checkout.session.completed", session | changes, tag=self.tag)

    def delayed(self, outcome, **changes):
        """A delayed payment method came to its end: `succeeded` or `failed`."""
        status = {"payment_status": "paid" if outcome == "succeeded" else "unpaid"}
        return self.completed(**(status | changes)) | {"type": f"checkout.session.async_payment_{outcome}"}

    def canceled(self, **changes):
        status = {"status": "canceled", "amount_received": 0}
        return self.succeeded(**(status | changes)) | {"type": "payment_intent.canceled"}

    def succeeded(self, **changes):
        intent = {
            "id": self.intent_id,
            "object": "payment_intent",
            "amount": self.amount_minor,
            "amount_received": self.amount_minor,
            "currency": self.currency.lower(),
            "status": "succeeded",
            "metadata": self.metadata,
        }
        return stripe_event("payment_intent.succeeded", intent | changes, tag=self.tag)

    def expired(self, **changes):
        """A session that nobody paid: it names no intent."""
        session = {
            "id": self.session_id,
            "object": "checkout.session",
            "payment_intent": None,
            "payment_status": "unpaid",
            "status": "expired",
            "amount_total": self.amount_minor,
            "currency": self.currency.lower(),
            "client_reference_id": self.payment_id,
            "metadata": self.metadata,
        }
        return stripe_event("checkout.session.expired", session | changes, tag=self.tag)

    def declined(self, code="generic_decline", **changes):
        intent = {
            "id": self.intent_id,
            "object": "payment_intent",
            "amount": self.amount_minor,
            "amount_received": 0,
            "currency": self.currency.lower(),
            "status": "requires_payment_method",
            "last_payment_error": {"code": "card_declined", "decline_code": code},
            "metadata": self.metadata,
        }
        return stripe_event("payment_intent.payment_failed", intent | changes, tag=self.tag)

    def refunded(self, amount_minor=None, **changes):
        """The charge's event: it names the intent alone, as a refund made in Stripe's dashboard does."""
        total = self.amount_minor if amount_minor is None else amount_minor
        charge = {
            "id": f"ch_3{self.tag}00000000",
            "object": "charge",
            "amount": self.amount_minor,
            "amount_refunded": total,
            "refunded": total == self.amount_minor,
            "currency": self.currency.lower(),
            "payment_intent": self.intent_id,
            "metadata": {},
        }
        return stripe_event("charge.refunded", charge | changes, tag=self.tag)

    def refund(self, amount_minor=None, status="succeeded", refund_id=None, **changes):
        refund = {
            "id": refund_id or f"re_3{self.tag}00000000",
            "object": "refund",
            "amount": self.amount_minor if amount_minor is None else amount_minor,
            "currency": self.currency.lower(),
            "status": status,
            "payment_intent": self.intent_id,
            "metadata": {},
        }
        return stripe_event("refund.created", refund | changes, tag=self.tag)

    def dispute(self, status="needs_response", **changes):
        dispute = {
            "id": f"du_3{self.tag}00000000",
            "object": "dispute",
            "amount": self.amount_minor,
            "currency": self.currency.lower(),
            "status": status,
            "payment_intent": self.intent_id,
            "metadata": {},
        }
        kind = "created" if status.endswith("needs_response") else "closed"
        return stripe_event(f"charge.dispute.{kind}", dispute | changes, tag=self.tag)


def stripe_event(type_, object_, *, tag=None, created=1_790_000_000, **changes):
    """An event as Stripe sends it, as a dict; `bytes_of` makes its body."""
    number = next(_numbers)
    event = {
        "id": f"evt_3{tag or uuid.uuid4().hex[:16]}{number:08d}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": created + number,
        "data": {"object": object_},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type_,
    }
    return event | changes


def bytes_of(event):
    """The body as Stripe formats it: indented by two, UTF-8."""
    return json.dumps(event, indent=2, ensure_ascii=False).encode()


def record(value, *, topic="stripe.events", partition=0, offset=None, key=b"", headers=()):
    """A record as it lay in Kafka; every one gets an offset of its own unless told."""
    body = bytes_of(value) if isinstance(value, dict) else value
    place = next(_numbers) if offset is None else offset
    return Incoming(topic, partition, place, key, body, tuple(headers), 1_790_000_000_000)


def booking_event(sale, name, **changes):
    """The bytes of a message of `bookings.events` about this sale; `changes` are of its data."""
    data = {
        "booking_id": uuid.UUID(sale.booking_id),
        "version": 1,
        "payment_id": uuid.UUID(sale.payment_id),
        "status": name.partition(".")[2],
        "reason": None,
        "amount_minor": sale.amount_minor,
        "currency": sale.currency,
    }
    return messages.booking_event(name, messages.BookingChange(**data | changes), cause=sale.tag, at=clock.now())


def payment_event(sale, name, *, cause=None, at=None, **changes):
    """The bytes of a message of `payments.events` about this sale, paid unless `changes` of its data say otherwise."""
    data = {
        "payment_id": uuid.UUID(sale.payment_id),
        "booking_id": uuid.UUID(sale.booking_id),
        "version": 1,
        "status": "succeeded",
        "paid": True,
        "cancel_due": False,
        "amount_minor": sale.amount_minor,
        "currency": sale.currency,
        "amount_refunded_minor": 0,
        "failure_reason": None,
        "dispute_open": False,
        "closed_reason": None,
        "slot_free": False,
    }
    state = messages.PaymentState(**data | changes)
    return messages.payment_event(name, state, cause=cause or str(state), at=at or clock.now())


def confirmed(sale):
    """The bytes of this sale's `booking.confirmed`."""
    return booking_event(sale, "booking.confirmed")


def paid(sale):
    """The bytes of this sale's `payment.succeeded`."""
    return payment_event(sale, "payment.succeeded")


async def insert_sales(tx, *sales, booking_status="pending"):
    """Write each sale's people, booking and open payment, as checkout would have."""
    people = [
        (person, role, first, last)
        for sale in sales
        for person, role, first, last in (
            (sale.client_id, "client", "Ada", "Lovelace"),
            (sale.coach_id, "coach", "Grace", "Hopper"),
        )
    ]
    await _insert(
        tx,
        "insert into users (id, email, password_hash, role) values ($1, $2, 'x', $3::text::userrole)",
        [(person, f"{role}-{person}@example.com", role) for person, role, _, _ in people],
    )
    for role in ("client", "coach"):
        await _insert(
            tx,
            f"insert into {role}_profiles (id, user_id, first_name, last_name) values ($1, $1, $2, $3)",
            [(person, first, last) for person, its, first, last in people if its == role],
        )
    await _insert(
        tx,
        'update coach_profiles set hourly_rate = 75.00, currency = $2, availability = \'{"timezone": "Europe/Paris"}\' '
        "where user_id = $1",
        [(sale.coach_id, sale.currency) for sale in sales],
    )
    await _insert(
        tx,
        "update client_profiles set timezone = 'America/New_York' where user_id = $1",
        [(sale.client_id,) for sale in sales],
    )
    await _insert(
        tx,
        "insert into bookings (id, client_id, coach_id, session_datetime, status) "
        "values ($1, $2, $3, $4, $5::text::bookingstatus)",
        [(sale.booking_id, sale.client_id, sale.coach_id, SESSION_AT, booking_status) for sale in sales],
    )
    await _insert(
        tx,
        "insert into payments (id, booking_id, amount, currency, amount_minor, stripe_session_id) "
        "values ($1, $2, $3, $4, $5, $6)",
        [
            (sale.payment_id, sale.booking_id, sale.amount_minor / 100, sale.currency, sale.amount_minor, sale.session_id)
            for sale in sales
        ],
    )


async def _insert(tx, sql, found):
    if found:
        await tx.exec_driver_sql(sql, found)
