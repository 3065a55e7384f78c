"""``/v1/disputes``."""

from typing import Any

from deploy.dev.stripe import disputes
from deploy.dev.stripe.api.route import Call, Route, listing, retrieve
from deploy.dev.stripe.objects.dispute import EVIDENCE
from deploy.dev.stripe.params import boolean, group, merged, metadata_change, read, text, unsettable
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/disputes"
UPDATE = {
    "evidence": group({name: unsettable(text(characters_max=20_000)) for name in EVIDENCE}),
    "submit": boolean,
    "metadata": metadata_change,
}


def update(world: World, call: Call) -> Json:
    """Answer a dispute with evidence."""
    wish = read(call.tree, UPDATE)
    dispute = world.get("dispute", call.object_id)
    if "metadata" in wish:
        wish["metadata"] = merged(dispute["metadata"], wish["metadata"])
    return disputes.update(world, dispute, wish, call.at)


def close(world: World, call: Call) -> Json:
    """Accept a dispute as lost."""
    read(call.tree, {})
    return disputes.close(world, world.get("dispute", call.object_id), call.at)


ROUTES = (
    Route("GET", PATH, "dispute", listing("dispute", PATH, {"charge": text(), "payment_intent": text()})),
    Route("GET", PATH + "/{id}", "dispute", retrieve("dispute")),
    Route("POST", PATH + "/{id}", "dispute", update),
    Route("POST", PATH + "/{id}/close", "dispute", close),
)
