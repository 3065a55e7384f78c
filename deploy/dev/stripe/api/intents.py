"""``/v1/payment_intents``: payments without a page."""

from typing import Any

from deploy.dev.stripe import money, payments
from deploy.dev.stripe.api.methods import method_named
from deploy.dev.stripe.api.route import Call, Route, currency, listing, retrieve, update
from deploy.dev.stripe.api.sessions import SHIPPING
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.objects import payment_intent
from deploy.dev.stripe.params import boolean, choice, each, email, group, integer, metadata, read, text, unsettable, url
from deploy.dev.stripe.payments import Declined
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/payment_intents"
UNEXPECTED = "payment_intent_unexpected_state"
UNPAID = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action", "processing")

CREATE = {
    "amount": integer(least=1),
    "currency": currency,
    "payment_method_types": each(choice("card", "sepa_debit")),
    "automatic_payment_methods": group({"enabled": boolean, "allow_redirects": choice("always", "never")}),
    "payment_method": text(),
    "confirm": boolean,
    "return_url": url,
    "off_session": boolean,
    "capture_method": choice("automatic", "automatic_async"),
    "confirmation_method": choice("automatic"),
    "description": text(),
    "metadata": metadata,
    "receipt_email": email,
    "setup_future_usage": choice("off_session", "on_session"),
    "shipping": SHIPPING,
    "statement_descriptor": text(characters_max=22),
    "statement_descriptor_suffix": text(characters_max=22),
}
CONFIRM = {"payment_method": text(), "return_url": url, "off_session": boolean, "receipt_email": email}
CANCEL = {"cancellation_reason": choice("duplicate", "fraudulent", "requested_by_customer", "abandoned")}


def create(world: World, call: Call) -> Json:
    """Make an intent, and confirm it at once if asked to."""
    wish = read(call.tree, CREATE, required=("amount", "currency"))
    _require_chargeable(wish["amount"], wish["currency"])
    if wish.get("confirm") and not wish.get("payment_method"):
        raise _nothing_to_pay_with()
    method = method_named(world, wish["payment_method"], call.now) if wish.get("payment_method") else None
    kinds = {"payment_method_types": wish.get("payment_method_types") or ["card"]}
    intent = payment_intent.new(
        world.mint.of_payment("pi", world.mint.stem()),
        created=call.now,
        amount=wish["amount"],
        currency=wish["currency"],
        secret=world.mint.characters(25),
        wish=wish | kinds,
    )
    if method:
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    world.put("intent", intent)
    world.tell("payment_intent.created", intent, now=call.now, cause=call.at.cause)
    return _confirm(world, intent, call, wish.get("return_url")) if wish.get("confirm") else intent


def confirm(world: World, call: Call) -> Json:
    """Try to pay an intent; a declined card is a 402, and another may be tried."""
    wish = read(call.tree, CONFIRM)
    intent = _unpaid(world, call, "confirm")
    if wish.get("payment_method"):
        intent["payment_method"] = method_named(world, wish["payment_method"], call.now)["id"]
    if not intent["payment_method"]:
        raise _nothing_to_pay_with()
    return _confirm(world, intent, call, wish.get("return_url"))


def cancel(world: World, call: Call) -> Json:
    """End an intent that was not paid."""
    wish = read(call.tree, CANCEL)
    intent = _own(world, call)
    if intent["status"] not in CANCELABLE:
        message = (
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a PaymentIntent"
            f" with one of the following statuses may be canceled: {', '.join(CANCELABLE)}."
        )
        raise ApiError(400, message, code=UNEXPECTED)
    payments.cancel(world, intent, call.at, reason=wish.get("cancellation_reason"))
    return intent


def refusal(world: World, intent_id: str, declined: Declined) -> ApiError:
    """Return the 402 of a declined attempt, with what the bank said and the intent as it is now."""
    said = {name: value for name, value in declined.error.items() if name not in {"message", "type", "code", "doc_url"}}
    details = said | {"payment_intent": world.get("intent", intent_id)}
    error = declined.error
    return ApiError(402, error["message"], kind=error["type"], code=error.get("code"), details=details)


def _confirm(world: World, intent: Json, call: Call, return_url: str | None) -> Json:
    method = world.get("method", intent["payment_method"])
    outcome = payments.attempt(world, intent, method, call.at, return_url=return_url)
    if isinstance(outcome, Declined):
        raise refusal(world, intent["id"], outcome)
    return intent


def _own(world: World, call: Call) -> Json:
    """Return the intent, unless it is a session's: those are the hosted page's alone."""
    intent = world.get("intent", call.object_id)
    if world.session_of(intent["id"]):
        raise ApiError(400, "You cannot perform this action on PaymentIntents created by Checkout.")
    return intent


def _unpaid(world: World, call: Call, action: str) -> Json:
    intent = _own(world, call)
    if intent["status"] not in UNPAID:
        message = f"You cannot {action} this PaymentIntent because it has a status of {intent['status']}."
        raise ApiError(400, message, code=UNEXPECTED)
    return intent


def _require_chargeable(amount: int, code: str) -> None:
    """Refuse an amount that Stripe would not charge in this currency."""
    least, most = money.amount_min(code), money.amount_max(code)
    if amount < least:
        message = f"Amount must be at least {money.spell(least, code)} {code}"
        raise ApiError(400, message, code="amount_too_small", param="amount")
    if amount > most:
        raise ApiError(400, f"Amount must be no more than {money.spell(most, code)}", code="amount_too_large", param="amount")
    money.require_step(amount, code, param="amount")


def _nothing_to_pay_with() -> ApiError:
    message = (
        "You cannot confirm this PaymentIntent because it's missing a payment method. To confirm the PaymentIntent,"
        " specify a payment method attached to this PaymentIntent."
    )
    return ApiError(400, message, code=UNEXPECTED)


ROUTES = (
    Route("POST", PATH, "intent", create),
    Route("GET", PATH, "intent", listing("intent", PATH)),
    Route("GET", PATH + "/{id}", "intent", retrieve("intent")),
    Route(
        "POST",
        PATH + "/{id}",
        "intent",
        update("intent", {"description": unsettable(text()), "receipt_email": unsettable(email)}),
    ),
    Route("POST", PATH + "/{id}/confirm", "intent", confirm),
    Route("POST", PATH + "/{id}/cancel", "intent", cancel),
)
