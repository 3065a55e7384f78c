"""What a session sells: the cart keeps it, and ``line_items`` shows it with its price."""

from typing import Any

from deploy.dev.stripe.ids import Mint
from deploy.dev.stripe.objects import price

Json = dict[str, Any]


def new(mint: Mint, item: Json, *, created: int) -> Json:
    """Return what the cart keeps of one item: amounts, texts, and the ids of what Stripe makes for an inline price."""
    told = item["price_data"]
    named = told.get("price")
    return {
        "id": mint.alone("li"),
        "created": created,
        "currency": told["currency"],
        "description": told["product_data"].get("description"),
        "name": told["product_data"]["name"],
        "price": named["id"] if named else mint.alone("price"),
        "product": named["product"] if named else "prod_" + mint.characters(14),
        "quantity": item["quantity"],
        "unit_amount": told["unit_amount"],
    }


def shown(kept: Json, named: Json | None) -> Json:
    """Return the item as the API shows it; ``named`` is its price where the shop had made one."""
    total = kept["unit_amount"] * kept["quantity"]
    inline = {"currency": kept["currency"], "unit_amount": kept["unit_amount"], "product": kept["product"], "active": False}
    return {
        "id": kept["id"],
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": total,
        "amount_tax": 0,
        "amount_total": total,
        "currency": kept["currency"],
        "description": kept["name"],
        "metadata": {},
        "price": named or price.new(kept["price"], inline, created=kept["created"]),
        "quantity": kept["quantity"],
    }
