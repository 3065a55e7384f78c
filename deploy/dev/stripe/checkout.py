"""Hosted Checkout: a session is created, paid over as many cards as it takes, or expires. No I/O.

A wish or a card enters, the changed world and an outcome leave. Event order per card: stripe.com's own, as recorded.
Next: ``world.take``.
"""

from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe import money
from deploy.dev.stripe.cards import BY_NUMBER, Card, Challenges, Declines, Pays
from deploy.dev.stripe.errors import ApiError, bad_parameter
from deploy.dev.stripe.ids import stem_of
from deploy.dev.stripe.objects import charge as charges
from deploy.dev.stripe.objects import event, payment_intent, payment_method
from deploy.dev.stripe.objects import session as sessions
from deploy.dev.stripe.world import World

Json = dict[str, Any]

LIFETIME_SECONDS_MIN = 30 * 60  # of a session, from its creation; docs.stripe.com/api/checkout/sessions/create
LIFETIME_SECONDS_MAX = 24 * 60 * 60

AUTHENTICATION_FAILED = (
    "We are unable to authenticate your payment method. Please choose a different payment method and try again."
)


@dataclass(frozen=True)
class Paid:
    """The money is ours; the customer may go on once ``event_id`` was answered."""

    event_id: str


@dataclass(frozen=True)
class Declined:
    """Not with this card; the session stays open. ``message`` is for the customer."""

    message: str


@dataclass(frozen=True)
class Challenged:
    """The bank wants to see the customer at its own page first."""

    intent_id: str


Outcome = Paid | Declined | Challenged


def create(world: World, wish: Json, *, now: int, public_url: str) -> Json:
    """Return a new open session for checked parameters (``api.SESSION_CREATE``), or refuse."""
    expires_at = wish.get("expires_at") or now + LIFETIME_SECONDS_MAX
    if expires_at < now + LIFETIME_SECONDS_MIN:
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise bad_parameter(message, "expires_at")
    if expires_at > now + LIFETIME_SECONDS_MAX:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise bad_parameter(message, "expires_at")
    currency, amount = _total(wish["line_items"])
    session_id = world.mint.session()
    wish = wish | {"expires_at": expires_at, "url": f"{public_url}/c/pay/{session_id}"}
    session = sessions.new(session_id, created=now, currency=currency, amount=amount, wish=wish)
    world.put("session", session)
    data = wish.get("payment_intent_data", {})
    world.put("cart", {"id": session_id, "line_items": wish["line_items"], "payment_intent_data": data})
    return session


def expire(world: World, session: Json, *, now: int, cause: Json) -> Json:
    """Close an open session unpaid; an intent that an attempt left behind is canceled with it."""
    if session["status"] != "open":
        message = (
            'Only Checkout Sessions with a status in ["open"] can be expired.'
            f" This Checkout Session has a status of `{session['status']}`."
        )
        raise ApiError(400, message)
    session["status"] = "expired"
    session["url"] = None
    world.put("session", session)
    world.tell("checkout.session.expired", session, now=now, cause=cause)
    if session["payment_intent"]:
        intent = world.get("intent", session["payment_intent"])
        intent |= {
            "status": "canceled",
            "canceled_at": now,
            "cancellation_reason": "expired",
            "next_action": None,
            "payment_method": None,
        }
        world.put("intent", intent)
        world.tell("payment_intent.canceled", intent, now=now, cause=cause)
    return session


def pay(world: World, session: Json, card: Card, email: str, *, now: int, public_url: str) -> Outcome:
    """Play one attempt with this card on an open session."""
    intent = _intent_of(world, session, now)
    method = payment_method.new(world.mint.alone("pm"), card, created=now, email=email)
    world.put("method", method)
    match BY_NUMBER[card.number].behaviour:
        case Pays():
            return _succeed(world, session, intent, method, now=now, public_url=public_url, challenged=False)
        case Declines() as decline:
            return _decline(world, intent, method, decline, now=now)
        case Challenges():
            intent["status"] = "requires_action"
            intent["payment_method"] = method["id"]
            intent["last_payment_error"] = None
            hop = {"return_url": session["url"], "url": f"{public_url}/3ds/{intent['id']}"}
            intent["next_action"] = {"redirect_to_url": hop, "type": "redirect_to_url"}
            world.put("intent", intent)
            world.tell("payment_intent.requires_action", intent, now=now, cause=event.cause())
            return Challenged(intent["id"])


def answer_challenge(world: World, intent: Json, *, passed: bool, now: int, public_url: str) -> Paid | Declined:
    """Go on after the bank's page; the intent must be waiting for it (``requires_action``)."""
    session = world.session_of(intent["id"])
    assert session is not None
    method = world.get("method", intent["payment_method"])
    intent["next_action"] = None
    if passed:
        return _succeed(world, session, intent, method, now=now, public_url=public_url, challenged=True)
    error = {
        "code": "payment_intent_authentication_failure",
        "doc_url": "https://stripe.com/docs/error-codes/payment-intent-authentication-failure",
        "message": AUTHENTICATION_FAILED,
        "payment_method": method,
        "type": "invalid_request_error",
    }
    _fail(world, intent, error, now=now)
    return Declined(AUTHENTICATION_FAILED)


def settle(world: World, charge: Json, *, now: int) -> None:
    """Give a paid charge its balance transaction: capture is asynchronous, fees arrive a little later."""
    charge["balance_transaction"] = world.mint.of_payment("txn", stem_of(charge["id"]))
    world.put("charge", charge)
    previous = {"balance_transaction": None}
    world.tell("charge.updated", charge, now=now, cause=event.cause(), previous=previous)


def _total(line_items: list[Json]) -> tuple[str, int]:
    """Return currency and total in minor units, or refuse what Stripe would not charge."""
    currency = line_items[0]["price_data"]["currency"]
    amount = 0
    for at, item in enumerate(line_items):
        price = item["price_data"]
        if price["currency"] != currency:
            raise bad_parameter("All line items must have the same currency.", f"line_items[{at}][price_data][currency]")
        if price["unit_amount"] % money.step(currency):
            where = f"line_items[{at}][price_data][unit_amount]"
            message = f"Amounts in {currency} must be evenly divisible by {money.step(currency)}."
            raise bad_parameter(message, where, "parameter_invalid_integer")
        amount += price["unit_amount"] * item["quantity"]
    least = money.MINIMUMS.get(currency, 1)
    total_due = "The Checkout Session's total amount due must"
    if amount < least:
        message = f"{total_due} add up to at least {money.spell(least, currency)} {currency}"
        raise ApiError(400, message, code="amount_too_small")
    if amount > money.AMOUNT_MAX:
        message = f"{total_due} be no more than {money.spell(money.AMOUNT_MAX, currency)} {currency}"
        raise ApiError(400, message, code="amount_too_large")
    return currency, amount


def _intent_of(world: World, session: Json, now: int) -> Json:
    """Return the session's intent; the first attempt makes it."""
    if session["payment_intent"]:
        return world.get("intent", session["payment_intent"])
    intent = payment_intent.new(
        world.mint.of_payment("pi", world.mint.stem()),
        created=now,
        amount=session["amount_total"],
        currency=session["currency"],
        secret=world.mint.characters(25),
        wish=world.get("cart", session["id"])["payment_intent_data"],
    )
    session["payment_intent"] = intent["id"]
    world.put("intent", intent)
    world.put("session", session)
    world.tell("payment_intent.created", intent, now=now, cause=event.cause())
    return intent


def _succeed(world: World, session: Json, intent: Json, method: Json, *, now: int, public_url: str, challenged: bool) -> Paid:
    charge_id = world.mint.of_payment("ch", stem_of(intent["id"]))
    receipt_url = f"{public_url}/receipts/{charge_id}"
    charge = charges.succeeded(charge_id, intent, method, created=now, challenged=challenged, receipt_url=receipt_url)
    intent |= {
        "amount_received": intent["amount"],
        "last_payment_error": None,
        "latest_charge": charge_id,
        "payment_method": method["id"],
        "status": "succeeded",
    }
    session |= {
        "collected_information": {"shipping_details": None},
        "customer_details": sessions.customer_details(method["billing_details"]["email"]),
        "payment_status": "paid",
        "status": "complete",
        "url": None,
    }
    for kind, thing in (("charge", charge), ("intent", intent), ("session", session)):
        world.put(kind, thing)
    world.tell("charge.succeeded", charge, now=now, cause=event.cause())
    world.tell("payment_intent.succeeded", intent, now=now, cause=event.cause())
    completed = world.tell("checkout.session.completed", session, now=now, cause=event.cause())
    return Paid(completed)


def _decline(world: World, intent: Json, method: Json, decline: Declines, *, now: int) -> Declined:
    charge_id = world.mint.of_payment("ch", stem_of(intent["id"]))
    charge = charges.failed(charge_id, intent, method, created=now, decline=decline)
    world.put("charge", charge)
    world.tell("charge.failed", charge, now=now, cause=event.cause())
    intent["latest_charge"] = charge_id
    error = {
        "advice_code": decline.advice_code,
        "charge": charge_id,
        "code": decline.code,
        "decline_code": decline.decline_code,
        "doc_url": "https://stripe.com/docs/error-codes/" + decline.code.replace("_", "-"),
        "message": decline.message,
        "payment_method": method,
        "type": "card_error",
    }
    _fail(world, intent, error, now=now)
    return Declined(decline.message)


def _fail(world: World, intent: Json, error: Json, *, now: int) -> None:
    intent |= {
        "last_payment_error": error,
        "next_action": None,
        "payment_method": None,
        "status": "requires_payment_method",
    }
    world.put("intent", intent)
    world.tell("payment_intent.payment_failed", intent, now=now, cause=event.cause())
