"""Decides the next step of a checkout. Pure; checkout.py carries it out.

Enters: what the caller asks for, the booking, the payments that may block it, Stripe's answers so far in this call, the time.
Leaves: one `Step`. One row is one Stripe session and one idempotency key. A row without a session may be given up for another;
a row whose session's URL was shown is given up only when Stripe itself says that it can be paid no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from ingress import problems
from ingress.problems import Problem
from ingress.store import BlockingPayments, Booking, Payment
from shared.domain import money
from shared.stripe_api import NoSuchSession, Session, SessionRequest, SessionStatus

# Stripe takes sessions of 30 minutes to 24 hours, counted from when it receives the call, by its own clock:
# https://docs.stripe.com/api/checkout/sessions/create, expires_at. Forty seconds are for the call itself, three attempts of ten
# seconds and the pauses between them. Shorter than the shortest session of our settings: no call gives up a row that was just
# inserted.
SESSION_LEFT_MIN = timedelta(minutes=30, seconds=40)
SESSION_LIFETIME_MAX = timedelta(hours=24) - timedelta(minutes=1)  # the minute allows for our clock being ahead
KEY_AGE_MAX = timedelta(hours=23)  # Stripe keeps an idempotency key for at least 24 hours
# Eight digits, of rupiahs twelve: https://docs.stripe.com/currencies, "Minimum and maximum charge amounts". The older
# application's column has room for eight before the point.
AMOUNT_MINOR_MAX = 99_999_999
AMOUNT_MINOR_MAX_OF_IDR = 9_999_999_999
# Stripe's codes for what a coach or a client has in their profile: https://docs.stripe.com/error-codes. The smallest charge
# depends on the account's settlement currency and the rate of the day, so that only Stripe knows it.
PROBLEMS_OF_PROFILES = {
    "amount_too_small": problems.BOOKING_HAS_NO_PRICE.about(
        "The price of the booking is less than the payment provider charges."
    ),
    "amount_too_large": problems.BOOKING_HAS_NO_PRICE.about(
        "The price of the booking is more than the payment provider charges."
    ),
    "email_invalid": problems.CLIENT_EMAIL_REFUSED,
}


@dataclass(frozen=True, slots=True)
class CheckoutParams:
    """What the caller asks for; `key` is sha256 of the caller and their Idempotency-Key, or None."""

    booking_id: UUID
    success_url: str
    cancel_url: str
    key: str | None


@dataclass(slots=True)
class StripeAnswers:
    """Stripe's answers in this call: sessions by id, and the rows whose key will never give a session."""

    sessions: dict[str, Session | NoSuchSession] = field(default_factory=dict)
    spent: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the checkout."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Insert:
    """No payment blocks the checkout: insert a row, after closing `instead_of` in the same transaction when there is one."""

    instead_of: Payment | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """The row has no session yet: ask Stripe to create it, or to return the one that it created."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class Ask:
    """The row's session may be over or complete, or its URL is not known: ask Stripe."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same parameters under the same key: return the same answer again."""

    payment: Payment
    session_id: str
    url: str


Step = Refuse | Insert | Create | Ask | Repeat


def decide(
    params: CheckoutParams, booking: Booking, blocking: BlockingPayments, stripe_answers: StripeAnswers, now: datetime
) -> Step:
    """Choose the next step; every step either ends the call or adds to what is known."""
    if blocking.same_key is not None and not was_made_with(params, blocking.same_key):
        return Refuse(problems.IDEMPOTENCY_KEY_REUSED)
    if booking.status != "pending":
        return Refuse(problems.BOOKING_NOT_PENDING)
    if booking.starts_at <= now:
        return Refuse(problems.BOOKING_PAST)
    if blocking.paid is not None:
        return Refuse(already_exists(blocking.paid, url=None))
    if blocking.open is None:
        return Insert()
    if blocking.open.session_id is None:
        return _without_session(blocking.open, stripe_answers, now)
    return _with_session(params, blocking.open, blocking.open.session_id, stripe_answers, now)


def was_made_with(params: CheckoutParams, payment: Payment) -> bool:
    """Return whether a payment was made with exactly these parameters."""
    asked = (payment.booking_id, payment.request.get("success_url"), payment.request.get("cancel_url"))
    return asked == (params.booking_id, params.success_url, params.cancel_url)


def already_exists(payment: Payment, *, url: str | None) -> Problem:
    """Return the problem that shows the existing payment, with its URL while it can be paid there."""
    return problems.PAYMENT_ALREADY_EXISTS.showing(payment_id=str(payment.id), session_id=payment.session_id, url=url)


def price_minor(booking: Booking) -> int | None:
    """Return what the session costs in minor units, or None when that cannot be charged."""
    rate = booking.hourly_rate
    # PostgreSQL's numeric can be NaN.
    if rate is None or not rate.is_finite() or len(booking.currency) != len("USD"):
        return None
    price = money.price_minor(rate, booking.duration_minutes, booking.currency)
    highest = AMOUNT_MINOR_MAX_OF_IDR if booking.currency.upper() == "IDR" else AMOUNT_MINOR_MAX
    return price if 0 < price <= highest else None


def refusal(code: str) -> Problem:
    """Return the problem for a request that Stripe refused with this code: 400 when a profile must be corrected, else 502."""
    return PROBLEMS_OF_PROFILES.get(code, problems.STRIPE_REFUSED)


def item_name(booking: Booking) -> str:
    """Return the line that the customer reads on Stripe's page."""
    whom = f" with {booking.coach_name}" if booking.coach_name else ""
    return f"Coaching session{whom}, {booking.duration_minutes} min"


def session_end(now: datetime, lifetime: timedelta) -> datetime:
    """Return when a session that is made now must end, in whole seconds."""
    return now.replace(microsecond=0) + min(lifetime, SESSION_LIFETIME_MAX)


def stored_request(params: CheckoutParams, booking: Booking, amount_minor: int, expires_at: datetime) -> dict[str, object]:
    """Return the whole request to Stripe, so that the same one is sent again after a crash."""
    return {
        "success_url": params.success_url,
        "cancel_url": params.cancel_url,
        "amount_minor": amount_minor,
        "currency": booking.currency,
        "expires_at": int(expires_at.timestamp()),
        "item_name": item_name(booking),
        "customer_email": booking.client_email,
    }


def answered_request(payment: Payment, session: Session) -> dict[str, object]:
    """Return what is kept of a request that Stripe answered: no name and no address, and the URL where the customer pays."""
    kept = {name: value for name, value in payment.request.items() if name not in {"item_name", "customer_email"}}
    return {**kept, "session_url": session.url}


def session_request(payment: Payment) -> SessionRequest:
    """Return the request to Stripe for a row that has no session yet."""
    asked: Mapping[str, object] = payment.request
    assert payment.expires_at is not None, "a row without expiry is given up, never resumed"
    return SessionRequest(
        payment_id=payment.id,
        booking_id=payment.booking_id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        item_name=str(asked["item_name"]),
        customer_email=str(asked["customer_email"]),
        success_url=str(asked["success_url"]),
        cancel_url=str(asked["cancel_url"]),
        expires_at=payment.expires_at,
    )


def _without_session(payment: Payment, stripe_answers: StripeAnswers, now: datetime) -> Step:
    if (
        payment.id in stripe_answers.spent
        or payment.expires_at is None
        or payment.expires_at - now < SESSION_LEFT_MIN
        or now - payment.created_at > KEY_AGE_MAX
        or "item_name" not in payment.request
    ):
        return Insert(instead_of=payment)
    return Create(payment)


def _with_session(
    params: CheckoutParams, payment: Payment, session_id: str, stripe_answers: StripeAnswers, now: datetime
) -> Step:
    url = payment.request.get("session_url")
    match stripe_answers.sessions.get(session_id):
        case None:
            is_over = payment.expires_at is None or payment.expires_at <= now
            # An attempt may have completed it: a delayed method's money takes days, and the page takes no payment meanwhile.
            if is_over or payment.is_attempted or not isinstance(url, str):
                return Ask(session_id)
        case NoSuchSession():
            return Insert(instead_of=payment)
        case Session(status=SessionStatus.EXPIRED):
            return Insert(instead_of=payment)
        case Session(url=url):
            # Complete: its URL is gone, and an event that says paid follows soon.
            pass
    if params.key is not None and params.key == payment.idempotency_key and isinstance(url, str):
        return Repeat(payment, session_id, url)
    return Refuse(already_exists(payment, url=url))
