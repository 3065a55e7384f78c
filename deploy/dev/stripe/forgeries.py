"""Webhooks that a receiver must not believe, made from true ones. Pure. Next: ``courier`` sends them.

All but two have a valid signature: their contents are wrong.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from deploy.dev.stripe import signature

Json = dict[str, Any]

Forgery = Literal[
    "stale_timestamp", "wrong_signature", "wrong_livemode", "foreign_account", "thin_event", "oversized", "not_utf8"
]

STALE_SECONDS = 60 * 60  # receivers tolerate five minutes (docs.stripe.com/webhooks#replay-attacks)
OVERSIZED_BYTES = 768 * 1024  # real events are a few KB, and few receivers take more than a hundred
FOREIGN_ACCOUNT = "acct_1ForeignAccount000"
SECRET_OF_NOBODY = "whsec_of_nobody"  # noqa: S105 - it opens nothing, that is its use


def body(event: Json, forgery: Forgery | None = None) -> bytes:
    """Return an event's bytes as Stripe sends them (indented by two, UTF-8), or what the forgery makes of them."""
    match forgery:
        case None | "stale_timestamp" | "wrong_signature":
            said = event
        case "wrong_livemode":
            said = event | {"livemode": not event["livemode"]}
        case "foreign_account":
            said = event | {"account": FOREIGN_ACCOUNT}
        case "thin_event":
            said = _thin(event)
        case "oversized":
            said = event | {"padding": "x" * OVERSIZED_BYTES}
        case "not_utf8":
            return _bytes(event | {"padding": "?"}).replace(b'"padding": "?"', b'"padding": "\xff\xfe"')
    return _bytes(said)


def header(sent: bytes, secrets: Sequence[str], at_seconds: int, forgery: Forgery | None = None) -> str:
    """Return the signature that goes with it."""
    match forgery:
        case "stale_timestamp":
            return signature.header(sent, secrets, at_seconds - STALE_SECONDS)
        case "wrong_signature":
            return signature.header(sent, [SECRET_OF_NOBODY], at_seconds)
        case _:
            return signature.header(sent, secrets, at_seconds)


def _thin(event: Json) -> Json:
    """Return the event as API v2 would send it: whom it is about, and nothing else."""
    subject = event["data"]["object"]
    return {
        "id": event["id"],
        "object": "v2.core.event",
        "type": f"v1.{event['type']}",
        "livemode": event["livemode"],
        "created": datetime.fromtimestamp(event["created"], UTC).isoformat().replace("+00:00", "Z"),
        "related_object": {"id": subject["id"], "type": subject["object"], "url": f"/v1/{subject['object']}s/{subject['id']}"},
    }


def _bytes(said: Json) -> bytes:
    return msgspec.json.format(msgspec.json.encode(said), indent=2)
