"""``/v1/checkout/sessions``."""

from typing import Any

from deploy.dev.stripe import checkout, expansions, lists
from deploy.dev.stripe.api.route import PAGING, Call, Route, currency, listing, retrieve, update
from deploy.dev.stripe.errors import bad_parameter
from deploy.dev.stripe.params import boolean, choice, each, email, group, integer, metadata, read, text, url
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/checkout/sessions"

PRODUCT_DATA = group({"name": text(), "description": text(), "images": each(url), "metadata": metadata}, required=("name",))
PRICE_DATA = group(
    {"currency": currency, "unit_amount": integer(least=0), "product_data": PRODUCT_DATA},
    required=("currency", "unit_amount", "product_data"),
)
LINE_ITEM = group({"price_data": PRICE_DATA, "price": text(), "quantity": integer(least=1)}, required=("quantity",))
ADDRESS = group({name: text() for name in ("city", "country", "line1", "line2", "postal_code", "state")})
SHIPPING = group(
    {"name": text(), "address": ADDRESS, "carrier": text(), "phone": text(), "tracking_number": text()},
    required=("name", "address"),
)
INTENT_DATA = group(
    {
        "metadata": metadata,
        "description": text(),
        "receipt_email": email,
        "setup_future_usage": choice("off_session", "on_session"),
        "shipping": SHIPPING,
        "statement_descriptor": text(characters_max=22),
        "statement_descriptor_suffix": text(characters_max=22),
        "capture_method": choice("automatic", "automatic_async"),
    }
)

CREATE = {
    "mode": choice("payment"),
    "ui_mode": choice("hosted_page"),
    "line_items": each(LINE_ITEM),
    "payment_method_types": each(choice("card", "sepa_debit")),
    "success_url": url,
    "cancel_url": url,
    "client_reference_id": text(characters_max=200),
    "customer_email": email,
    "expires_at": integer(),
    "locale": text(),
    "submit_type": choice("auto", "book", "donate", "pay"),
    "metadata": metadata,
    "payment_intent_data": INTENT_DATA,
    "allow_promotion_codes": boolean,
    "billing_address_collection": choice("auto", "required"),
    "phone_number_collection": group({"enabled": boolean}),
}


def create(world: World, call: Call) -> Json:
    """Open a Checkout Session in payment mode."""
    wish = read(call.tree, CREATE, required=("mode", "line_items", "success_url"))
    if not wish["line_items"]:
        raise bad_parameter("Missing required param: line_items.", "line_items", "parameter_missing")
    for at, item in enumerate(wish["line_items"]):
        if ("price" in item) == ("price_data" in item):
            raise bad_parameter("You must specify either `price` or `price_data`.", f"line_items[{at}]")
    return checkout.create(world, wish, now=call.now, public_url=call.public_url)


def expire(world: World, call: Call) -> Json:
    """Expire an open session."""
    read(call.tree, {})
    return checkout.expire(world, world.get("session", call.object_id), call.at)


def list_line_items(world: World, call: Call) -> Json:
    """List what a session sells."""
    wish = read(call.tree, PAGING)
    listed = expansions.line_items(world, world.get("session", call.object_id))
    return lists.page(listed["data"], wish, url=listed["url"], noun="line item")


ROUTES = (
    Route("POST", PATH, "session", create),
    Route(
        "GET",
        PATH,
        "session",
        listing("session", PATH, {"payment_intent": text(), "status": choice("open", "complete", "expired")}),
    ),
    Route("GET", PATH + "/{id}", "session", retrieve("session")),
    Route("POST", PATH + "/{id}", "session", update("session")),
    Route("POST", PATH + "/{id}/expire", "session", expire),
    Route("GET", PATH + "/{id}/line_items", "item", list_line_items),
)
