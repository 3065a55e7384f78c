"""The Product: what is for sale."""

from typing import Any

Json = dict[str, Any]


def new(product_id: str, wish: Json, *, created: int) -> Json:
    """Return a product; ``wish`` holds its ``name`` and may hold the other parameters of the create call."""
    return {
        "id": product_id,
        "object": "product",
        "active": wish.get("active", True),
        "created": created,
        "default_price": None,
        "description": wish.get("description"),
        "images": wish.get("images", []),
        "livemode": False,
        "marketing_features": [],
        "metadata": wish.get("metadata", {}),
        "name": wish["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "tax_details": None,
        "type": "service",
        "unit_label": wish.get("unit_label"),
        "updated": created,
        "url": wish.get("url"),
    }
