"""``/v1/events``: the last thirty days."""

from typing import Any

from deploy.dev.stripe.api.route import Route, listing, retrieve
from deploy.dev.stripe.params import boolean, each, text

Json = dict[str, Any]

PATH = "/v1/events"
KEPT_SECONDS = 30 * 24 * 60 * 60  # docs.stripe.com/api/events/list


def _wanted(told: Json, wish: Json, now: int) -> bool:
    return (
        told["created"] > now - KEPT_SECONDS
        and told["type"] in wish.get("types", [told["type"]])
        and wish.get("delivery_success", told["pending_webhooks"] == 0) == (told["pending_webhooks"] == 0)
    )


ROUTES = (
    Route(
        *("GET", PATH, "event"),
        listing("event", PATH, {"type": text(), "types": each(text()), "delivery_success": boolean}, _wanted),
    ),
    Route("GET", PATH + "/{id}", "event", retrieve("event")),
)
