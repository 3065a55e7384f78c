"""``/v1/products`` and ``/v1/prices``: what may be sold, as far as a session's line items need it."""

from typing import Any

from deploy.dev.stripe.api.route import Call, Route, currency, listing, retrieve, update
from deploy.dev.stripe.errors import bad_parameter
from deploy.dev.stripe.objects import price, product
from deploy.dev.stripe.params import boolean, each, group, integer, metadata, read, text, unsettable, url
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PRODUCTS, PRICES = "/v1/products", "/v1/prices"

PRODUCT_FIELDS = {
    "name": text(),
    "active": boolean,
    "description": text(),
    "images": each(url),
    "unit_label": text(),
    "url": url,
}
PRODUCT_UPDATE = PRODUCT_FIELDS | {
    "description": unsettable(text()),
    "images": unsettable(each(url), []),
    "unit_label": unsettable(text()),
    "url": unsettable(url),
}
PRODUCT_CREATE = PRODUCT_FIELDS | {"metadata": metadata}
PRICE_FIELDS = {"active": boolean, "lookup_key": text(), "nickname": text()}
PRICE_UPDATE = PRICE_FIELDS | {"lookup_key": unsettable(text()), "nickname": unsettable(text())}
PRICE_CREATE = PRICE_FIELDS | {
    "currency": currency,
    "unit_amount": integer(least=0),
    "product": text(),
    "product_data": group({"name": text(), "active": boolean, "metadata": metadata}, required=("name",)),
    "metadata": metadata,
}


def create_product(world: World, call: Call) -> Json:
    """Make a product."""
    return _new_product(world, read(call.tree, PRODUCT_CREATE, required=("name",)), call)


def create_price(world: World, call: Call) -> Json:
    """Make a one-time price of a product that exists, or of one told beside it."""
    wish = read(call.tree, PRICE_CREATE, required=("currency", "unit_amount"))
    if ("product" in wish) == ("product_data" in wish):
        raise bad_parameter("You must specify either `product` or `product_data` when creating a price.", "product")
    if "product" in wish:
        sold = world.get("product", wish["product"], param="product", status=400)
    else:
        sold = _new_product(world, wish["product_data"], call)
    made = price.new(world.mint.alone("price"), wish | {"product": sold["id"]}, created=call.now)
    world.put("price", made)
    world.tell("price.created", made, now=call.now, cause=call.at.cause)
    return made


def _new_product(world: World, wish: Json, call: Call) -> Json:
    made = product.new("prod_" + world.mint.characters(14), wish, created=call.now)
    world.put("product", made)
    world.tell("product.created", made, now=call.now, cause=call.at.cause)
    return made


ROUTES = (
    Route("POST", PRODUCTS, "product", create_product),
    Route("GET", PRODUCTS, "product", listing("product", PRODUCTS, {"active": boolean})),
    Route("GET", PRODUCTS + "/{id}", "product", retrieve("product")),
    Route("POST", PRODUCTS + "/{id}", "product", update("product", PRODUCT_UPDATE, tells=("product.updated",))),
    Route("POST", PRICES, "price", create_price),
    Route(
        *("GET", PRICES, "price"),
        listing("price", PRICES, {"active": boolean, "currency": currency, "product": text()}),
    ),
    Route("GET", PRICES + "/{id}", "price", retrieve("price")),
    Route("POST", PRICES + "/{id}", "price", update("price", PRICE_UPDATE, tells=("price.updated",))),
)
