"""``/v1/webhook_endpoints``, and ``/v1/account``: who is told, and whose key it is."""

from typing import Any

from deploy.dev.stripe.api.route import Call, Route, listing, retrieve
from deploy.dev.stripe.errors import ApiError, bad_parameter
from deploy.dev.stripe.objects import account, endpoint
from deploy.dev.stripe.objects.event import API_VERSION
from deploy.dev.stripe.params import boolean, choice, each, merged, metadata, metadata_change, read, text, unsettable, url
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/webhook_endpoints"
ENDPOINTS_MAX = 16  # per account and mode; docs.stripe.com/webhooks
CREATE = {
    "url": url,
    "enabled_events": each(text()),
    "api_version": choice(API_VERSION),
    "description": unsettable(text()),
    "metadata": unsettable(metadata, {}),
}
UPDATE = {
    "url": url,
    "enabled_events": each(text()),
    "disabled": boolean,
    "description": unsettable(text()),
    "metadata": metadata_change,
}


def create(world: World, call: Call) -> Json:
    """Make an endpoint; its secret is in this answer and in no other."""
    wish = read(call.tree, CREATE, required=("url", "enabled_events"))
    _some(wish)
    if len(world.tables["endpoint"]) >= ENDPOINTS_MAX:
        raise ApiError(400, f"You have reached the maximum of {ENDPOINTS_MAX} test webhook endpoints.")
    made = endpoint.new(world.mint.alone("we"), wish, created=call.now)
    secret = world.mint.secret()
    world.put("endpoint", made)
    world.put("secret", {"id": made["id"], "values": [{"secret": secret, "until": None}]})
    return made | {"secret": secret}


def update(world: World, call: Call) -> Json:
    """Choose what an endpoint is told and where it listens, or disable it."""
    wish = read(call.tree, UPDATE)
    _some(wish)
    changed = world.get("endpoint", call.object_id)
    if "metadata" in wish:
        wish["metadata"] = merged(changed["metadata"], wish["metadata"])
    if "disabled" in wish:
        wish["status"] = "disabled" if wish.pop("disabled") else "enabled"
    changed |= wish
    world.put("endpoint", changed)
    return changed


def delete(world: World, call: Call) -> Json:
    """Forget an endpoint; what it was owed is owed no more."""
    read(call.tree, {})
    gone = world.get("endpoint", call.object_id)
    world.remove("endpoint", gone["id"])
    world.remove("secret", gone["id"])
    return {"id": gone["id"], "object": "webhook_endpoint", "deleted": True}


def show_account(world: World, call: Call) -> Json:
    """Show whose key it is."""
    read(call.tree, {})
    return account.new(world.mint.account_id)


def _some(wish: Json) -> None:
    if "enabled_events" in wish and not wish["enabled_events"]:
        raise bad_parameter("You must enable at least one event.", "enabled_events")


ROUTES = (
    Route("POST", PATH, "endpoint", create),
    Route("GET", PATH, "endpoint", listing("endpoint", PATH)),
    Route("GET", PATH + "/{id}", "endpoint", retrieve("endpoint")),
    Route("POST", PATH + "/{id}", "endpoint", update),
    Route("DELETE", PATH + "/{id}", "endpoint", delete),
    Route("GET", "/v1/account", "account", show_account),
)
