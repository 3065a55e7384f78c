"""Stripe's endpoints: what each accepts, and what it does to the world. No I/O.

A checked call enters, an object leaves; refusals are ``ApiError``. ``ROUTES`` is the table of everything served.
Next: ``checkout`` and ``refunds``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe import checkout, lists, money, refunds
from deploy.dev.stripe.errors import bad_parameter
from deploy.dev.stripe.forms import Tree
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.params import (
    Node,
    boolean,
    choice,
    each,
    email,
    group,
    integer,
    metadata,
    one_or,
    read,
    text,
    url,
)
from deploy.dev.stripe.world import World

Json = dict[str, Any]

EVENTS_KEPT_SECONDS = 30 * 24 * 60 * 60  # docs.stripe.com/api/events/list


@dataclass(frozen=True)
class Call:
    """One request: its parameters, the id in its path (empty where there is none), and what events say of it."""

    tree: Tree
    object_id: str
    now: int
    public_url: str
    request_id: str
    idempotency_key: str | None

    @property
    def cause(self) -> Json:
        """What the events of this call say about their cause."""
        return event.cause(self.request_id, self.idempotency_key)


Operation = Callable[[World, Call], Json]


@dataclass(frozen=True)
class Route:
    """A method and a path, with ``{id}`` where an id stands."""

    method: str
    path: str
    operation: Operation

    @property
    def name(self) -> str:
        """How faults and people call it."""
        return f"{self.method} {self.path}"


def currency(node: Node, path: str) -> str:
    """Accept a three-letter currency in any case."""
    code = str(text()(node, path) or "").lower()
    if not money.is_currency(code):
        raise bad_parameter(f"Invalid currency: {code}.", path)
    return code


PRICE_DATA = group(
    {
        "currency": currency,
        "unit_amount": integer(least=0),
        "product_data": group(
            {"name": text(), "description": text(), "images": each(url), "metadata": metadata}, required=("name",)
        ),
    },
    required=("currency", "unit_amount", "product_data"),
)
LINE_ITEM = group({"price_data": PRICE_DATA, "quantity": integer(least=1)}, required=("price_data", "quantity"))

SESSION_CREATE = {
    "mode": choice("payment"),
    "ui_mode": choice("hosted_page"),
    "line_items": each(LINE_ITEM),
    "payment_method_types": each(choice("card")),
    "success_url": url,
    "cancel_url": url,
    "client_reference_id": text(characters_max=200),
    "customer_email": email,
    "expires_at": integer(),
    "locale": text(),
    "submit_type": choice("auto", "book", "donate", "pay"),
    "metadata": metadata,
    "payment_intent_data": group({"metadata": metadata, "description": text(), "receipt_email": email}),
}

REFUND_CREATE = {
    "payment_intent": text(),
    "charge": text(),
    "amount": integer(least=1),
    "reason": choice("duplicate", "fraudulent", "requested_by_customer"),
    "metadata": metadata,
}

SPAN = group({"gt": integer(), "gte": integer(), "lt": integer(), "lte": integer()})
EVENT_LIST = {
    "type": text(),
    "types": each(text()),
    "created": one_or(integer(), SPAN),
    "delivery_success": boolean,
    "limit": integer(least=1, most=lists.LIMIT_MAX),
    "starting_after": text(),
    "ending_before": text(),
}


ENDPOINT_LIST = {
    "limit": integer(least=1, most=lists.LIMIT_MAX),
    "starting_after": text(),
    "ending_before": text(),
}
ENDPOINT_UPDATE = {"enabled_events": each(text()), "disabled": boolean}


def create_session(world: World, call: Call) -> Json:
    """Open a Checkout Session in payment mode."""
    wish = read(call.tree, SESSION_CREATE, required=("mode", "line_items", "success_url"))
    if not wish["line_items"]:
        raise bad_parameter("Missing required param: line_items.", "line_items", "parameter_missing")
    return checkout.create(world, wish, now=call.now, public_url=call.public_url)


def expire_session(world: World, call: Call) -> Json:
    """Expire an open session."""
    read(call.tree, {})
    return checkout.expire(world, world.get("session", call.object_id), now=call.now, cause=call.cause)


def create_refund(world: World, call: Call) -> Json:
    """Refund a charge, or what an intent charged, in full or in part."""
    return refunds.create(world, read(call.tree, REFUND_CREATE), now=call.now, cause=call.cause)


def retrieve(kind: str) -> Operation:
    """Return the operation that shows one object of this kind."""

    def show(world: World, call: Call) -> Json:
        read(call.tree, {})
        return world.get(kind, call.object_id)

    return show


def list_events(world: World, call: Call) -> Json:
    """List the events of the last 30 days."""
    wish = read(call.tree, EVENT_LIST)
    found = [told for told in reversed(world.tables["event"].values()) if _wanted(told, wish, call.now)]
    return lists.page(found, wish, url="/v1/events", noun="event")


def list_endpoints(world: World, call: Call) -> Json:
    """List the webhook endpoints: the one that there is."""
    wish = read(call.tree, ENDPOINT_LIST)
    found = list(world.tables["endpoint"].values())
    return lists.page(found, wish, url="/v1/webhook_endpoints", noun="webhook endpoint")


def update_endpoint(world: World, call: Call) -> Json:
    """Choose which kinds of events the endpoint is told of, or disable it."""
    wish = read(call.tree, ENDPOINT_UPDATE)
    endpoint = dict(world.get("endpoint", call.object_id))
    if "enabled_events" in wish:
        endpoint["enabled_events"] = wish["enabled_events"]
    if "disabled" in wish:
        endpoint["status"] = "disabled" if wish["disabled"] else "enabled"
    world.put("endpoint", endpoint)
    return endpoint


def show_account(world: World, call: Call) -> Json:
    """Show whose key it is."""
    read(call.tree, {})
    return {"id": world.mint.account_id, "object": "account", "charges_enabled": True, "type": "standard"}


def _wanted(told: Json, wish: Json, now: int) -> bool:
    created: int = told["created"]
    span = wish.get("created", {})
    if isinstance(span, int):
        span = {"gte": span, "lte": span}
    return (
        created > now - EVENTS_KEPT_SECONDS
        and wish.get("type", told["type"]) == told["type"]
        and told["type"] in wish.get("types", [told["type"]])
        and wish.get("delivery_success", told["pending_webhooks"] == 0) == (told["pending_webhooks"] == 0)
        and span.get("gt", created - 1) < created < span.get("lt", created + 1)
        and span.get("gte", created) <= created <= span.get("lte", created)
    )


ROUTES = (
    Route("POST", "/v1/checkout/sessions", create_session),
    Route("GET", "/v1/checkout/sessions/{id}", retrieve("session")),
    Route("POST", "/v1/checkout/sessions/{id}/expire", expire_session),
    Route("GET", "/v1/payment_intents/{id}", retrieve("intent")),
    Route("GET", "/v1/charges/{id}", retrieve("charge")),
    Route("POST", "/v1/refunds", create_refund),
    Route("GET", "/v1/refunds/{id}", retrieve("refund")),
    Route("GET", "/v1/events", list_events),
    Route("GET", "/v1/events/{id}", retrieve("event")),
    Route("GET", "/v1/webhook_endpoints", list_endpoints),
    Route("GET", "/v1/webhook_endpoints/{id}", retrieve("endpoint")),
    Route("POST", "/v1/webhook_endpoints/{id}", update_endpoint),
    Route("GET", "/v1/account", show_account),
)
