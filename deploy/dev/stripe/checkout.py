"""Hosted Checkout: a session is created, paid over as many attempts as it takes, or expires. No I/O.

A wish or a payment method enters, the changed world and an outcome leave. Next: ``payments``.
"""

from typing import Any

from deploy.dev.stripe import money, payments
from deploy.dev.stripe.cards import BankAccount, Card
from deploy.dev.stripe.errors import ApiError, bad_parameter
from deploy.dev.stripe.objects import line_item, payment_intent, payment_method, product
from deploy.dev.stripe.objects import session as sessions
from deploy.dev.stripe.payments import At, Outcome
from deploy.dev.stripe.world import World

Json = dict[str, Any]

LIFETIME_SECONDS_MIN = 30 * 60  # of a session, from its creation; docs.stripe.com/api/checkout/sessions/create
LIFETIME_SECONDS_MAX = 24 * 60 * 60


def create(world: World, wish: Json, *, now: int, public_url: str) -> Json:
    """Return a new open session for checked parameters (``api.sessions``), or refuse."""
    expires_at = wish.get("expires_at") or now + LIFETIME_SECONDS_MAX
    if expires_at < now + LIFETIME_SECONDS_MIN:
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise bad_parameter(message, "expires_at")
    if expires_at > now + LIFETIME_SECONDS_MAX:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise bad_parameter(message, "expires_at")
    currency, amount = _total([_priced(world, item, at) for at, item in enumerate(wish["line_items"])])
    kinds = wish.get("payment_method_types") or _kinds(currency)
    if "sepa_debit" in kinds and currency != "eur":
        raise bad_parameter("SEPA Direct Debit takes euros only.", "payment_method_types")
    session_id = world.mint.session()
    url = f"{public_url}/c/pay/{session_id}"
    wish = wish | {"expires_at": expires_at, "url": url, "payment_method_types": kinds}
    session = sessions.new(session_id, created=now, currency=currency, amount=amount, wish=wish)
    world.put("session", session)
    items = []
    for at, item in enumerate(wish["line_items"]):
        priced = _priced(world, item, at)
        items.append(line_item.new(world.mint, priced, created=now))
        if "price" not in item:  # what is sold without a name becomes a product that nobody else can buy
            told = priced["price_data"]["product_data"] | {"active": False}
            world.put("product", product.new(items[-1]["product"], told, created=now))
    data = wish.get("payment_intent_data", {}) | {"payment_method_types": kinds}
    world.put("cart", {"id": session_id, "line_items": items, "payment_intent_data": data})
    return session


def expire(world: World, session: Json, at: At) -> Json:
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
    world.tell("checkout.session.expired", session, now=at.now, cause=at.cause)
    if session["payment_intent"]:
        payments.cancel(world, world.get("intent", session["payment_intent"]), at, reason="expired")
    return session


def pay(world: World, session: Json, paid_with: Card | BankAccount, billing: Json, at: At) -> Outcome:
    """Play one attempt with what a customer typed, on an open session."""
    wish = {"billing_details": billing}
    method = payment_method.new(world.mint.alone("pm"), paid_with, created=at.now, wish=wish)
    world.put("method", method)
    return pay_with(world, session, method, at)


def pay_with(world: World, session: Json, method: Json, at: At) -> Outcome:
    """Play one attempt with a payment method that exists, on an open session; the first attempt makes the intent."""
    return payments.attempt(world, _intent_of(world, session, at), method, at, return_url=session["url"])


def _kinds(currency: str) -> list[str]:
    """Return what an account with default settings offers."""
    return ["card", "sepa_debit"] if currency == "eur" else ["card"]


def _priced(world: World, item: Json, at: int) -> Json:
    """Return the item with what it costs, whether the price is told or named."""
    if "price_data" in item:
        return item
    price = world.get("price", item["price"], param=f"line_items[{at}][price]", status=400)
    product = world.get("product", price["product"])
    told = {"currency": price["currency"], "unit_amount": price["unit_amount"], "product_data": product, "price": price}
    return item | {"price_data": told}


def _total(line_items: list[Json]) -> tuple[str, int]:
    """Return currency and total in minor units, or refuse what Stripe would not charge."""
    currency = line_items[0]["price_data"]["currency"]
    amount = 0
    for at, item in enumerate(line_items):
        price = item["price_data"]
        if price["currency"] != currency:
            raise bad_parameter("All line items must have the same currency.", f"line_items[{at}][price_data][currency]")
        money.require_step(price["unit_amount"], currency, param=f"line_items[{at}][price_data][unit_amount]")
        amount += price["unit_amount"] * item["quantity"]
    least, most = money.amount_min(currency), money.amount_max(currency)
    total_due = "The Checkout Session's total amount due must"
    if amount < least:
        message = f"{total_due} add up to at least {money.spell(least, currency)} {currency}"
        raise ApiError(400, message, code="amount_too_small")
    if amount > most:
        message = f"{total_due} be no more than {money.spell(most, currency)} {currency}"
        raise ApiError(400, message, code="amount_too_large")
    return currency, amount


def _intent_of(world: World, session: Json, at: At) -> Json:
    """Return the session's intent; the first attempt makes it."""
    if session["payment_intent"]:
        return world.get("intent", session["payment_intent"])
    intent = payment_intent.new(
        world.mint.of_payment("pi", world.mint.stem()),
        created=at.now,
        amount=session["amount_total"],
        currency=session["currency"],
        secret=world.mint.characters(25),
        wish=world.get("cart", session["id"])["payment_intent_data"],
    )
    session["payment_intent"] = intent["id"]
    world.put("intent", intent)
    world.put("session", session)
    world.tell("payment_intent.created", intent, now=at.now, cause=at.cause)
    return intent
