"""Refunds: in full and in parts, at once or later, some of which fail. No I/O. Next: ``world.take``."""

from typing import Any

from deploy.dev.stripe import money
from deploy.dev.stripe.cards import BY_FINGERPRINT, Pays
from deploy.dev.stripe.errors import ApiError, bad_parameter
from deploy.dev.stripe.ids import stem_of
from deploy.dev.stripe.objects import refund as shape
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.world import World

Json = dict[str, Any]

# Two events of one change, in this order (a published trace of a receiver shows both).
UPDATED = ("refund.updated", "charge.refund.updated")
FAILED = ("refund.failed", "charge.refund.updated")


def create(world: World, wish: Json, at: At) -> Json:
    """Return the refund for checked parameters (``api.refunds``), or refuse. Without ``amount`` all that is left goes back."""
    charge = _charge_to_refund(world, wish)
    if charge["dispute"] and not world.get("dispute", charge["dispute"])["is_charge_refundable"]:
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise ApiError(400, message, code="charge_disputed")
    left = charge["amount"] - charge["amount_refunded"] - waiting_minor(world, charge)
    if left <= 0:
        raise ApiError(400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = wish.get("amount", left)
    currency = charge["currency"]
    money.require_step(amount, currency, param="amount")
    if amount > left:
        message = (
            f"Refund amount ({money.spell(amount, currency)}) is greater than"
            f" unrefunded amount on charge ({money.spell(left, currency)})"
        )
        raise ApiError(400, message, param="amount")
    stem = stem_of(charge["id"])
    waits = aftermath(charge) == "refunds_wait"
    refund = shape.new(
        world.mint.of_payment("re", stem),
        charge,
        created=at.now,
        amount=amount,
        status="pending" if waits else "succeeded",
        balance_transaction=world.mint.of_payment("txn", stem),
        wish=wish,
    )
    world.put("refund", refund)
    world.tell("refund.created", refund, now=at.now, cause=at.cause)
    if not waits:
        _give_back(world, charge, refund, at)
    return refund


def succeed(world: World, refund: Json, at: At) -> None:
    """Let a pending refund arrive."""
    _change(world, refund, {"status": "succeeded"}, UPDATED, at)
    _give_back(world, world.get("charge", refund["charge"]), refund, at)


def fail(world: World, refund: Json, at: At) -> None:
    """Let a refund that had succeeded come back: the money is ours again, and so says the charge."""
    failure = world.mint.of_payment("txn", stem_of(refund["id"]))
    ends = {"status": "failed", "failure_reason": "expired_or_canceled_card", "failure_balance_transaction": failure}
    _change(world, refund, ends, FAILED, at)
    charge = world.get("charge", refund["charge"])
    previous = {"amount_refunded": charge["amount_refunded"]} | ({"refunded": True} if charge["refunded"] else {})
    charge |= {"amount_refunded": charge["amount_refunded"] - refund["amount"], "refunded": False}
    world.put("charge", charge)
    world.tell("charge.updated", charge, now=at.now, cause=at.cause, previous=previous)


def cancel(world: World, refund: Json, at: At) -> Json:
    """Take a pending refund back."""
    if refund["status"] != "pending":
        message = f"Refund {refund['id']} has a status of {refund['status']}; only pending refunds can be canceled."
        raise ApiError(400, message)
    _change(world, refund, {"status": "canceled"}, UPDATED, at)
    return refund


def waiting_minor(world: World, charge: Json) -> int:
    """Return how much of a charge is on its way back already."""
    return sum(refund["amount"] for refund in world.refunds_of(charge["id"]) if refund["status"] == "pending")


def aftermath(charge: Json) -> str | None:
    """Return what follows a charge with this card by itself."""
    details = charge["payment_method_details"]
    behaviour = BY_FINGERPRINT[details[details["type"]]["fingerprint"]]
    return behaviour.aftermath if isinstance(behaviour, Pays) else None


def _change(world: World, refund: Json, new: Json, kinds: tuple[str, ...], at: At) -> None:
    previous = {name: refund.get(name) for name in new}
    refund |= new
    world.put("refund", refund)
    for kind in kinds:
        world.tell(kind, refund, now=at.now, cause=at.cause, previous=previous)


def _give_back(world: World, charge: Json, refund: Json, at: At) -> None:
    previous = {"amount_refunded": charge["amount_refunded"], "receipt_url": charge["receipt_url"]}
    charge["amount_refunded"] += refund["amount"]
    charge["receipt_url"] = charge["receipt_url"].partition("?")[0] + f"?refund={refund['id']}"
    if charge["amount_refunded"] == charge["amount"]:
        previous["refunded"] = False
        charge["refunded"] = True
    world.put("charge", charge)
    world.tell("charge.refunded", charge, now=at.now, cause=at.cause, previous=previous)


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
