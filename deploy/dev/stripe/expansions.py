"""``expand[]``: an object in the place of its id (docs.stripe.com/api/expanding_objects). Pure.

An answer and paths such as ``payment_intent.latest_charge`` or ``data.charge`` enter; a copy with more in it leaves.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe.errors import bad_parameter
from deploy.dev.stripe.objects import line_item
from deploy.dev.stripe.world import World

Json = dict[str, Any]

DEPTH_MAX = 4  # Stripe's own limit


def line_items(world: World, session: Json) -> Json:
    """Return the list of what a session sells."""
    shown = [
        line_item.shown(kept, world.tables["price"].get(kept["price"]))
        for kept in world.get("cart", session["id"])["line_items"]
    ]
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return {"object": "list", "data": shown, "has_more": False, "url": url}


def refunds(world: World, charge: Json) -> Json:
    """Return the list of a charge's refunds, newest first."""
    found = world.refunds_of(charge["id"])[::-1]
    return {"object": "list", "data": found, "has_more": False, "url": f"/v1/charges/{charge['id']}/refunds"}


@dataclass(frozen=True)
class Listed:
    """A list that is shown on request alone: of what kind its objects are, and what makes it of the object that it is of."""

    kind: str
    of: Callable[[World, Json], Json]


# kind -> field -> the kind that its id names, or what to list there. A customer is always null here.
FIELDS: dict[str, dict[str, str | Listed]] = {
    "session": {"payment_intent": "intent", "customer": "customer", "line_items": Listed("item", line_items)},
    "item": {"price": "price"},
    "intent": {"latest_charge": "charge", "payment_method": "method", "customer": "customer"},
    "charge": {"payment_intent": "intent", "refunds": Listed("refund", refunds), "dispute": "dispute", "customer": "customer"},
    "refund": {"charge": "charge", "payment_intent": "intent"},
    "dispute": {"charge": "charge", "payment_intent": "intent"},
    "price": {"product": "product"},
    "product": {"default_price": "price"},
    "method": {"customer": "customer"},
}


def path(kind: str, wanted: str) -> list[str]:
    """Return the steps of a path that leads somewhere from an object of this kind, or refuse it."""
    steps = wanted.split(".")
    target: str | Listed = kind
    for step in steps[1:] if steps[0] == "data" else steps:
        found = _inside(target, step)
        if found is None:
            raise bad_parameter(f"This property cannot be expanded ({wanted}).", "expand")
        target = found
    if len(steps) > DEPTH_MAX:
        raise bad_parameter(f"You cannot expand more than {DEPTH_MAX} levels of a property.", "expand")
    return steps


def _inside(target: str | Listed, step: str) -> str | Listed | None:
    if isinstance(target, Listed):
        return target.kind if step == "data" else None
    return FIELDS.get(target, {}).get(step)


def expanded(world: World, kind: str, answer: Json, paths: list[list[str]]) -> Json:
    """Return the answer with these paths expanded; without any it is the object itself, not a copy."""
    if not paths:
        return answer
    answer = copy.deepcopy(answer)
    for steps in paths:
        if steps[0] == "data":
            _expand_each(world, kind, answer, steps)
        else:
            _expand(world, kind, answer, steps)
    return answer


def _expand_each(world: World, kind: str, listed: Json, steps: list[str]) -> None:
    for thing in listed.get("data", []):
        _expand(world, kind, thing, steps[1:])


def _expand(world: World, kind: str, thing: Json, steps: list[str]) -> None:
    if not steps:
        return
    step, *rest = steps
    target = FIELDS[kind][step]
    if isinstance(target, Listed):
        if step not in thing:
            thing[step] = copy.deepcopy(target.of(world, thing))
        _expand_each(world, target.kind, thing[step], rest)
        return
    if isinstance(thing[step], str):
        thing[step] = copy.deepcopy(world.get(target, thing[step]))
    if thing[step] is not None:
        _expand(world, target, thing[step], rest)
