"""``/v1/refunds``."""

from typing import Any

from deploy.dev.stripe import refunds
from deploy.dev.stripe.api.route import Call, Route, listing, retrieve, update
from deploy.dev.stripe.params import choice, integer, metadata, read, text, unsettable
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/refunds"
CREATE = {
    "payment_intent": text(),
    "charge": text(),
    "amount": integer(least=1),
    "reason": choice("duplicate", "fraudulent", "requested_by_customer"),
    "metadata": unsettable(metadata, {}),
}


def create(world: World, call: Call) -> Json:
    """Refund a charge, or what an intent charged, in full or in part."""
    return refunds.create(world, read(call.tree, CREATE), call.at)


def cancel(world: World, call: Call) -> Json:
    """Take a pending refund back."""
    read(call.tree, {})
    return refunds.cancel(world, world.get("refund", call.object_id), call.at)


ROUTES = (
    Route("POST", PATH, "refund", create),
    Route("GET", PATH, "refund", listing("refund", PATH, {"charge": text(), "payment_intent": text()})),
    Route("GET", PATH + "/{id}", "refund", retrieve("refund")),
    Route("POST", PATH + "/{id}", "refund", update("refund", tells=refunds.UPDATED)),
    Route("POST", PATH + "/{id}/cancel", "refund", cancel),
)
