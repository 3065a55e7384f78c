"""The page with the buttons: the switches of ``control`` for a person, and what became of every webhook.

A pressed button or a filled form enters; its lever is pulled; the page shows what is on now. Next: ``control``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, get_args

import msgspec
from aiohttp import web
from multidict import MultiDictProxy

from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.control import DAY_SECONDS, LEVERS, Lever
from deploy.dev.stripe.deliveries import Delivery, Switches
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.faults import Kind
from deploy.dev.stripe.forgeries import Forgery
from deploy.dev.stripe.page import typed
from deploy.dev.stripe.sandbox import Sandbox

Json = dict[str, Any]

BY_NAME = {lever.name: lever for lever in LEVERS}
EVENTS_OFFERED = 12
DELIVERIES_SHOWN = 30
# Words that are lists, and how a person says several at once: one field each, or with commas.
SEVERAL = frozenset({"forgeries", "paused_endpoints"})
COMMAS = frozenset({"order", "retry_schedule_seconds"})


@dataclass(frozen=True)
class Button:
    """What it says, which lever it pulls with which words, and under which heading it stands.

    ``wants`` names the list that the person chooses from first: an event, or nothing.
    """

    label: str
    lever: str
    words: Json
    wants: str = ""


GROUPS: dict[str, tuple[Button, ...]] = {
    "Every webhook from now on": (
        Button("An ordinary day", "PUT deliveries", {}),
        Button("Comes twice", "PUT deliveries", {"duplicates": 1}),
        Button("A third comes twice", "PUT deliveries", {"duplicates": 1, "duplicate_share": 0.3}),
        Button("In any order", "PUT deliveries", {"reorder_ms": 3000}),
        Button("Oldest last", "PUT deliveries", {"order": "oldest_last"}),
        Button("Newest first", "PUT deliveries", {"order": "newest_first"}),
        Button("First attempt gets lost", "PUT deliveries", {"drop_first": 1}),
        Button("Ten seconds late", "PUT deliveries", {"delay_ms": 10_000}),
        Button("Two events for one change", "PUT deliveries", {"twins": 1}),
        Button("Retries as long as live ones", "PUT deliveries", {"retry_schedule_seconds": "live"}),
        Button("Hold all", "POST deliveries/pause", {}),
        Button("Go on", "POST deliveries/resume", {}),
    ),
    "One event, once more": (
        Button("As it was", "POST events/{id}/redeliver", {}, wants="event"),
        Button("Signed an hour ago", "POST events/{id}/forge", {"kind": "stale_timestamp"}, wants="event"),
        Button("Signed by nobody", "POST events/{id}/forge", {"kind": "wrong_signature"}, wants="event"),
        Button("Of the other mode", "POST events/{id}/forge", {"kind": "wrong_livemode"}, wants="event"),
        Button("Of a foreign account", "POST events/{id}/forge", {"kind": "foreign_account"}, wants="event"),
        Button("Thin", "POST events/{id}/forge", {"kind": "thin_event"}, wants="event"),
        Button("Far too big", "POST events/{id}/forge", {"kind": "oversized"}, wants="event"),
        Button("Not UTF-8", "POST events/{id}/forge", {"kind": "not_utf8"}, wants="event"),
    ),
    "The clock": (
        Button("Ten minutes later", "POST clock", {"advance_seconds": 600}),
        Button("An hour later", "POST clock", {"advance_seconds": 3600}),
        Button("A day later", "POST clock", {"advance_seconds": DAY_SECONDS}),
        Button("Three days later", "POST clock", {"advance_seconds": 3 * DAY_SECONDS}),
    ),
    "Everything": (Button("Back to rest", "POST clear", {}),),
}
FAULT_AT_FIRST = {"route": "POST /v1/checkout/sessions", "kind": "error_before", "times": 1, "seconds": 60}
BUTTONS = {f"{at}.{nth}": button for at, group in enumerate(GROUPS.values()) for nth, button in enumerate(group)}


class Switchboard:
    """The handlers of the page; ``render`` turns a template's name and values into an answer."""

    def __init__(self, sandbox: Sandbox, render: Callable[..., web.Response]) -> None:
        self._sandbox = sandbox
        self._render = render

    async def show(self, _request: web.Request) -> web.Response:
        """GET /switches."""
        return self._page()

    async def press(self, request: web.Request) -> web.Response:
        """POST /switches: ``button``, and ``event`` where it wants one; or ``lever``, the ``object`` it is about, its words."""
        form = await typed(request)
        button = BUTTONS.get(str(form.get("button", "")))
        lever = BY_NAME.get(button.lever if button else str(form.get("lever", "")))
        if lever is None:
            raise web.HTTPSeeOther("/switches")
        object_id = str(form.get(button.wants if button else "object", ""))
        try:
            wish = msgspec.convert(button.words if button else _words(lever, form), lever.reads, strict=False)
            answer = lever.pull(self._sandbox, object_id, wish)
        except ApiError as unknown:
            return self._page(fault=unknown.message, status=unknown.status)
        except ValueError as wrong:
            return self._page(fault=str(wrong), refused={lever.name: _as_typed(lever, form)}, status=400)
        if isinstance(answer, dict) and "secret" in answer:  # shown once, and in no address
            return self._page(said=f"The new secret of {object_id}: {answer['secret']}")
        raise web.HTTPSeeOther("/switches")

    def _page(
        self, *, fault: str = "", said: str = "", refused: dict[str, Json] | None = None, status: int = 200
    ) -> web.Response:
        sandbox = self._sandbox
        now: Json = msgspec.to_builtins(sandbox.outbox.switches)
        rest = msgspec.to_builtins(Switches())
        kinds = {event["id"]: event["type"] for event in sandbox.world.tables["event"].values()}
        buttons = iter(BUTTONS)
        return self._render(
            "switches.html",
            status=status,
            fault=fault,
            said=said,
            groups={title: [(next(buttons), button) for button in group] for title, group in GROUPS.items()},
            events=list(islice(reversed(kinds.items()), EVENTS_OFFERED)),
            on=[f"{name.replace('_', ' ')}: {_said(value)}" for name, value in now.items() if value != rest[name]]
            + [f"{fault.route}: {fault.kind}, {fault.times} times" for fault in sandbox.faults.waiting]
            + [f"{loss.type}: lost, {loss.times} times" for loss in sandbox.world.losses.waiting]
            + ([f"clock: {sandbox.clock.ahead_seconds / 3600:.1f} hours ahead"] if sandbox.clock.ahead_seconds else []),
            now=now,
            forms={"PUT deliveries": _as_shown(now), "POST faults": FAULT_AT_FIRST} | (refused or {}),
            refused=refused or {},
            clock=_spell(sandbox.clock.now()),
            routes=[route.name for route in ROUTES],
            fault_kinds=get_args(Kind),
            forgeries=get_args(Forgery),
            event_types=sorted(set(kinds.values())),
            endpoints=[
                each | {"held": sandbox.outbox.switches.holds(each["id"])} for each in sandbox.world.tables["endpoint"].values()
            ],
            deliveries=[
                _row(delivery, kinds[delivery.event_id])
                for delivery in islice(reversed(sandbox.outbox.deliveries.values()), DELIVERIES_SHOWN)
            ],
        )


def _words(lever: Lever, form: MultiDictProxy[Any]) -> Json:
    """Return what was typed as the lever reads it; blanks are left out, and are at rest."""
    words: Json = {}
    for name in lever.reads.__struct_fields__:
        typed = [text for each in form.getall(name, []) if (text := str(each).strip())]
        if name in SEVERAL:
            words[name] = typed
        elif typed and name in COMMAS and typed[0][0].isdigit():
            words[name] = [part.strip() for part in typed[0].split(",")]
        elif typed:
            words[name] = typed[0]
    return words


def _as_typed(lever: Lever, form: MultiDictProxy[Any]) -> Json:
    """Return what the form was sent with, for whoever corrects it."""
    several = {name: form.getall(name, []) for name in lever.reads.__struct_fields__}
    return {name: typed if name in SEVERAL else "".join(map(str, typed[:1])) for name, typed in several.items()}


def _as_shown(now: Json) -> Json:
    """Return the switches as a person types them; dice are begun anew only on being told to."""
    return now | {name: _said(now[name]) for name in COMMAS} | {"seed": ""}


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _row(delivery: Delivery, kind: str) -> Json:
    """Return what a person reads about a delivery and each of its attempts."""
    return {
        "type": kind,
        "event_id": delivery.event_id,
        "endpoint_id": delivery.endpoint_id,
        "what": delivery.forgery or ("" if delivery.reason == "event" else delivery.reason),
        "state": delivery.state,
        "due_at": _spell(delivery.due_at) if delivery.state == "pending" else "",
        "attempts": [
            {"at": _spell(one.at), "said": one.status or one.error, "latency_ms": round(one.latency_ms), "good": one.accepted}
            for one in delivery.attempts
        ],
    }


def _spell(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
