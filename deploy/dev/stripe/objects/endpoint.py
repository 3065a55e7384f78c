"""The Webhook Endpoint: who is told of which kinds of events. Its secret is shown by no call but the one that makes it."""

from typing import Any

from deploy.dev.stripe.objects.event import API_VERSION

Json = dict[str, Any]

EVERY_KIND = "*"


def new(endpoint_id: str, wish: Json, *, created: int) -> Json:
    """Return an enabled endpoint; ``wish`` holds its ``url`` and may hold the other parameters of the create call."""
    return {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        "api_version": wish.get("api_version", API_VERSION),
        "application": None,
        "created": created,
        "description": wish.get("description"),
        "enabled_events": wish.get("enabled_events", [EVERY_KIND]),
        "livemode": False,
        "metadata": wish.get("metadata", {}),
        "status": "enabled",
        "url": wish["url"],
    }


def is_told(endpoint: Json, event: Json) -> bool:
    """Tell whether this endpoint is sent an event of this kind now."""
    kinds: list[str] = endpoint["enabled_events"]
    return endpoint["status"] == "enabled" and (EVERY_KIND in kinds or event["type"] in kinds)
