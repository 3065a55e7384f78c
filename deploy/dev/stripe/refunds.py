"""Refunds, full and in parts. No I/O. Next: ``world.take``."""

from typing import Any

from deploy.dev.stripe import money
from deploy.dev.stripe.errors import ApiError, bad_parameter
from deploy.dev.stripe.ids import stem_of
from deploy.dev.stripe.objects import refund as shape
from deploy.dev.stripe.world import World

Json = dict[str, Any]


def create(world: World, wish: Json, *, now: int, cause: Json) -> Json:
    """Return the refund for checked parameters (``api.REFUND_CREATE``), or refuse. Emits two events, in Stripe's order.

    Without ``amount`` everything that is left is refunded.
    """
    charge = _charge_to_refund(world, wish)
    left = charge["amount"] - charge["amount_refunded"]
    if not left:
        raise ApiError(400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = wish.get("amount", left)
    currency = charge["currency"]
    if amount > left:
        message = (
            f"Refund amount ({money.spell(amount, currency)}) is greater than"
            f" unrefunded amount on charge ({money.spell(left, currency)})"
        )
        raise ApiError(400, message, param="amount")
    stem = stem_of(charge["id"])
    refund = shape.new(
        world.mint.of_payment("re", stem),
        charge,
        created=now,
        amount=amount,
        balance_transaction=world.mint.of_payment("txn", stem),
        wish=wish,
    )
    world.put("refund", refund)
    world.tell("refund.created", refund, now=now, cause=cause)
    previous = {"amount_refunded": charge["amount_refunded"], "receipt_url": charge["receipt_url"]}
    charge["amount_refunded"] += amount
    charge["receipt_url"] = charge["receipt_url"].partition("?")[0] + f"?refund={refund['id']}"
    if charge["amount_refunded"] == charge["amount"]:
        previous["refunded"] = False
        charge["refunded"] = True
    world.put("charge", charge)
    world.tell("charge.refunded", charge, now=now, cause=cause, previous=previous)
    return refund


def _charge_to_refund(world: World, wish: Json) -> Json:
    if wish.get("charge"):
        charge = world.get("charge", wish["charge"], param="charge")
        if wish.get("payment_intent") not in {None, charge["payment_intent"]}:
            raise ApiError(400, "The charge does not belong to this PaymentIntent.", param="payment_intent")
        if not charge["paid"]:
            raise ApiError(400, f"Charge {charge['id']} did not succeed, so it cannot be refunded.", param="charge")
        return charge
    if wish.get("payment_intent"):
        intent = world.get("intent", wish["payment_intent"], param="payment_intent")
        if intent["status"] != "succeeded":
            message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
            raise ApiError(400, message, param="payment_intent")
        return world.get("charge", intent["latest_charge"])
    message = "One of the following params should be provided for this request: payment_intent or charge."
    raise bad_parameter(message, None)
