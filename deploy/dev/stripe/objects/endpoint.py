"""The Webhook Endpoint: who is told of which kinds of events. This Stripe has exactly one."""

from typing import Any

from deploy.dev.stripe.objects.event import API_VERSION

Json = dict[str, Any]

EVERY_KIND = "*"


def new(endpoint_id: str, url: str, *, created: int) -> Json:
    """Return an endpoint that is told of everything; its secret is shown by no call but the one that makes it."""
    return {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": created,
        "description": None,
        "enabled_events": [EVERY_KIND],
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }


def is_told(endpoint: Json, event: Json) -> bool:
    """Tell whether this endpoint is sent an event of this kind now."""
    kinds: list[str] = endpoint["enabled_events"]
    return endpoint["status"] == "enabled" and (EVERY_KIND in kinds or event["type"] in kinds)
