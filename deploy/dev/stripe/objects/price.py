"""The Price: what one piece of a product costs, once."""

from typing import Any

Json = dict[str, Any]


def new(price_id: str, wish: Json, *, created: int) -> Json:
    """Return a one-time price; ``wish`` holds ``currency``, ``unit_amount`` and ``product``."""
    return {
        "id": price_id,
        "object": "price",
        "active": wish.get("active", True),
        "billing_scheme": "per_unit",
        "created": created,
        "currency": wish["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": wish.get("lookup_key"),
        "metadata": wish.get("metadata", {}),
        "nickname": wish.get("nickname"),
        "product": wish["product"],
        "recurring": None,
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time",
        "unit_amount": wish["unit_amount"],
        "unit_amount_decimal": str(wish["unit_amount"]),
    }
