"""``/v1/payment_pages``: the hosted page without a browser, for scripts that pay. Stripe's own CLI pays this way."""

from typing import Any

from deploy.dev.stripe import checkout
from deploy.dev.stripe.api.intents import UNEXPECTED, refusal
from deploy.dev.stripe.api.methods import method_named
from deploy.dev.stripe.api.route import Call, Route
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.params import integer, read, text
from deploy.dev.stripe.payments import Declined
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/payment_pages/{id}"


def show(world: World, call: Call) -> Json:
    """Show the page of a session."""
    read(call.tree, {})
    return _page(world.get("session", call.object_id))


def confirm(world: World, call: Call) -> Json:
    """Pay a session with a payment method; a declined one is a 402, as for an intent."""
    wish = read(call.tree, {"payment_method": text(), "expected_amount": integer()}, required=("payment_method",))
    session = world.get("session", call.object_id)
    if session["status"] != "open":
        raise ApiError(400, f"This Checkout Session has a status of `{session['status']}`.", code=UNEXPECTED)
    if wish.get("expected_amount", session["amount_total"]) != session["amount_total"]:
        raise ApiError(400, "The expected amount does not match the amount of the session.", param="expected_amount")
    method = method_named(world, wish["payment_method"], call.now)
    if method["type"] not in session["payment_method_types"]:
        message = f"This session does not take the payment method type {method['type']}."
        raise ApiError(400, message, param="payment_method")
    outcome = checkout.pay_with(world, session, method, call.at)
    if isinstance(outcome, Declined):
        raise refusal(world, session["payment_intent"], outcome)
    return _page(session)


def _page(session: Json) -> Json:
    return {
        "id": session["id"],
        "object": "payment_page",
        "session_id": session["id"],
        "amount_total": session["amount_total"],
        "currency": session["currency"],
        "livemode": session["livemode"],
        "payment_intent": session["payment_intent"],
        "payment_status": session["payment_status"],
        "status": session["status"],
        "success_url": session["success_url"],
    }


ROUTES = (Route("GET", PATH, "page", show), Route("POST", PATH + "/confirm", "page", confirm))
