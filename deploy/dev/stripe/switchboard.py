"""The page with the buttons: the switches of ``control`` for a person, one press each.

A pressed button's name enters; its lever is pulled; the page shows what is on now. Next: ``control``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from deploy.dev.stripe.control import DAY_SECONDS, LEVERS
from deploy.dev.stripe.deliveries import Switches
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.sandbox import Sandbox

Json = dict[str, Any]

BY_NAME = {lever.name: lever for lever in LEVERS}
EVENTS_OFFERED = 12


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
    "The next call or event": (
        *(
            Button(f"{route}: {said}", "POST faults", {"route": f"POST /v1/{route}", "kind": kind})
            for route in ("checkout/sessions", "refunds")
            for said, kind in (
                ("500, nothing done", "error_before"),
                ("500, but done", "error_after"),
                ("429", "rate_limit"),
                ("answer torn", "cut"),
            )
        ),
        *(
            Button(f"{kind} never happens", "POST losses", {"type": kind})
            for kind in ("checkout.session.completed", "payment_intent.succeeded", "charge.refunded")
        ),
    ),
    "The clock": (
        Button("An hour later", "POST clock", {"advance_seconds": 3600}),
        Button("A day later", "POST clock", {"advance_seconds": DAY_SECONDS}),
    ),
    "Everything": (Button("Back to rest", "POST clear", {}),),
}
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
        """POST /switches: ``button``, and ``event`` where the button wants one."""
        form = await request.post()
        button = BUTTONS.get(str(form.get("button", "")))
        if button is None:
            raise web.HTTPSeeOther("/switches")
        lever = BY_NAME[button.lever]
        try:
            lever.pull(self._sandbox, str(form.get(button.wants, "")), msgspec.convert(button.words, lever.reads))
        except ApiError as unknown:
            return self._page(fault=unknown.message, status=unknown.status)
        raise web.HTTPSeeOther("/switches")

    def _page(self, *, fault: str = "", status: int = 200) -> web.Response:
        sandbox = self._sandbox
        now = msgspec.to_builtins(sandbox.outbox.switches)
        rest = msgspec.to_builtins(Switches())
        events = list(sandbox.world.tables["event"].values())[-EVENTS_OFFERED:]
        buttons = iter(BUTTONS)
        return self._render(
            "switches.html",
            status=status,
            fault=fault,
            groups=[(title, [(next(buttons), button) for button in group]) for title, group in GROUPS.items()],
            events=[{"id": event["id"], "type": event["type"]} for event in reversed(events)],
            on=[f"{name.replace('_', ' ')}: {value}" for name, value in now.items() if value != rest[name]]
            + [f"{fault.route}: {fault.kind}, {fault.times} times" for fault in sandbox.faults.waiting]
            + [f"{loss.type}: lost, {loss.times} times" for loss in sandbox.world.losses.waiting]
            + ([f"clock: {sandbox.clock.ahead_seconds / 3600:.1f} hours ahead"] if sandbox.clock.ahead_seconds else []),
        )
