"""``/v1/events``: the last thirty days."""

import re
from collections.abc import Callable
from typing import Any

from deploy.dev.stripe.api.route import Asked, Route, listing, retrieve
from deploy.dev.stripe.errors import bad_parameter
from deploy.dev.stripe.params import boolean, each, text

Json = dict[str, Any]

PATH = "/v1/events"
KEPT_SECONDS = 30 * 24 * 60 * 60  # docs.stripe.com/api/events/list
TYPES_MAX = 20  # same


def _asked(wish: Json) -> Callable[[Json], bool]:
    """Return what judges an event: its type by name, or by ``*`` where ``type`` has one; whether all webhooks were accepted."""
    types = wish.get("types", [])
    if types and "type" in wish:
        raise bad_parameter("You may pass either `type` or `types`, but not both.", "types")
    if len(types) > TYPES_MAX:
        raise bad_parameter(f"You may pass at most {TYPES_MAX} event types.", "types")
    names = "|".join(map(re.escape, types)) or re.escape(wish.get("type", "*")).replace(r"\*", ".*")
    wanted = re.compile(names)

    def fits(told: Json) -> bool:
        delivered = told["pending_webhooks"] == 0
        return bool(wanted.fullmatch(told["type"])) and wish.get("delivery_success", delivered) == delivered

    return fits


ROUTES = (
    Route(
        *("GET", PATH, "event"),
        listing(
            *("event", PATH),
            also=Asked({"type": text(), "types": each(text()), "delivery_success": boolean}, _asked),
            kept_seconds=KEPT_SECONDS,
        ),
    ),
    Route("GET", PATH + "/{id}", "event", retrieve("event", kept_seconds=KEPT_SECONDS)),
)
