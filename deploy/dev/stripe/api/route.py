"""What all endpoints share: a call, a route, and the operations that need no code of their own: show, list, update.

Next: ``params`` for what may be asked, ``expansions`` for what is shown inside.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe import expansions, lists, money
from deploy.dev.stripe.errors import bad_parameter, missing_object
from deploy.dev.stripe.forms import Tree
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.params import Node, Rule, each, group, integer, merged, metadata_change, one_or, read, text
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.world import NOUNS, World

Json = dict[str, Any]


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
    def at(self) -> At:
        """When it happens, and what its events say about their cause."""
        return At(self.now, self.public_url, event.cause(self.request_id, self.idempotency_key))


Operation = Callable[[World, Call], Json]


@dataclass(frozen=True)
class Route:
    """A method and a path, with ``{id}`` where an id stands; ``shows`` is the kind of what it answers with."""

    method: str
    path: str
    shows: str
    operation: Operation

    @property
    def name(self) -> str:
        """How faults and people call it."""
        return f"{self.method} {self.path}"

    def perform(self, world: World, call: Call) -> Json:
        """Do what is asked, and show inside the answer what ``expand[]`` asks for; what cannot be shown is refused first."""
        wanted = read({"expand": call.tree.pop("expand")}, EXPAND) if "expand" in call.tree else {}
        paths = [expansions.path(self.shows, each_one) for each_one in wanted.get("expand", [])]
        return expansions.expanded(world, self.shows, self.operation(world, call), paths)


EXPAND = {"expand": each(text())}
SPAN = group({"gt": integer(), "gte": integer(), "lt": integer(), "lte": integer()})
CREATED = one_or(integer(), SPAN)
PAGING: dict[str, Rule] = {
    "limit": integer(least=1, most=lists.LIMIT_MAX),
    "starting_after": text(),
    "ending_before": text(),
    "created": CREATED,
}


def currency(node: Node, path: str) -> str:
    """Accept a currency that Stripe charges in, in any case."""
    code = str(text()(node, path)).lower()
    if not money.is_currency(code):
        known = ", ".join(money.CURRENCIES)
        raise bad_parameter(f"Invalid currency: {code}. Stripe currently supports these currencies: {known}", path)
    return code


def retrieve(kind: str, *, kept_seconds: float = math.inf) -> Operation:
    """Return the operation that shows one object of this kind, as long as it is kept."""

    def show(world: World, call: Call) -> Json:
        read(call.tree, {})
        found = world.get(kind, call.object_id)
        if found["created"] <= call.now - kept_seconds:
            raise missing_object(NOUNS[kind], call.object_id)
        return found

    return show


@dataclass(frozen=True)
class Asked:
    """What else a list may be asked for: its parameters, and what makes a judge of objects from a wish, or refuses it."""

    rules: Mapping[str, Rule]
    judge: Callable[[Json], Callable[[Json], bool]]


def listing(
    kind: str, url: str, by: Mapping[str, Rule] | None = None, *, also: Asked | None = None, kept_seconds: float = math.inf
) -> Operation:
    """Return the operation that lists objects of this kind, newest first, as long as each is kept.

    ``by`` are the fields that may be asked for by value.
    """
    fields = by or {}
    rules = PAGING | dict(fields) | dict(also.rules if also else {})

    def show(world: World, call: Call) -> Json:
        wish = read(call.tree, rules)
        judge = also.judge(wish) if also else None

        def fits(thing: Json) -> bool:
            return (
                all(wish[name] == thing[name] for name in fields if name in wish)
                and _within(thing["created"], wish.get("created"))
                and (judge is None or judge(thing))
            )

        everything = [thing for thing in reversed(world.tables[kind].values()) if thing["created"] > call.now - kept_seconds]
        return lists.page(everything, wish, url=url, noun=NOUNS[kind], fits=fits)

    return show


def update(kind: str, rules: Mapping[str, Rule] | None = None, tells: tuple[str, ...] = ()) -> Operation:
    """Return the operation that changes fields and metadata of an object, and tells these events of it."""
    known = {"metadata": metadata_change} | dict(rules or {})

    def change(world: World, call: Call) -> Json:
        wish = read(call.tree, known)
        thing = world.get(kind, call.object_id)
        if "metadata" in wish:
            wish["metadata"] = merged(thing["metadata"], wish["metadata"])
        previous = {name: thing[name] for name, value in wish.items() if thing[name] != value}
        thing |= wish
        world.put(kind, thing)
        if previous:
            for told in tells:
                world.tell(told, thing, now=call.now, cause=call.at.cause, previous=previous)
        return thing

    return change


def _within(created: int, span: Json | int | None) -> bool:
    match span:
        case None:
            return True
        case int():
            return created == span
        case _:
            inside: bool = span.get("gt", created - 1) < created < span.get("lt", created + 1)
            return inside and bool(span.get("gte", created) <= created <= span.get("lte", created))
