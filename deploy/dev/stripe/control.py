"""The switches under /_sandbox: arm faults, disturb deliveries, move the clock, look at what happened.

``LEVERS`` is the table of all of them: HTTP (here), the page with buttons (``switchboard``) and tests pull the same ones.
JSON enters, JSON leaves.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.deliveries import Switches
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.faults import Fault, Loss
from deploy.dev.stripe.forgeries import Forgery
from deploy.dev.stripe.sandbox import Sandbox

Handler = Callable[[web.Request], Awaitable[web.Response]]

DAY_SECONDS = 24 * 60 * 60


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A switch that needs no more words."""


class At(msgspec.Struct, forbid_unknown_fields=True):
    """Which endpoint (None: all)."""

    endpoint: str | None = None


class Forged(msgspec.Struct, forbid_unknown_fields=True):
    """Which forgery of an event, and for which endpoint (None: all)."""

    kind: Forgery
    endpoint: str | None = None


class Advance(msgspec.Struct, forbid_unknown_fields=True):
    """How far the clock goes forward."""

    advance_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.advance_seconds <= 400 * DAY_SECONDS:
            raise ValueError("advance_seconds must be positive and at most 400 days")


class Roll(msgspec.Struct, forbid_unknown_fields=True):
    """How long the old secret goes on signing beside the new one."""

    overlap_seconds: float = DAY_SECONDS  # Stripe's longest

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_seconds <= DAY_SECONDS:
            raise ValueError("overlap_seconds must lie between 0 and a day")


@dataclass(frozen=True)
class Lever:
    """One switch: its method and path (``{id}`` where an id stands), what it reads, what it does."""

    method: str
    path: str
    reads: type[msgspec.Struct]
    pull: Callable[[Sandbox, str, Any], object]

    @property
    def name(self) -> str:
        """How the page and people call it."""
        return f"{self.method} {self.path}"


def _arm_fault(sandbox: Sandbox, _id: str, fault: Fault) -> object:
    names = [route.name for route in ROUTES]
    if fault.route not in names:
        raise ValueError(f"route must be one of: {', '.join(names)}")
    sandbox.faults.waiting.append(fault)
    return sandbox.faults.waiting


def _disarm_faults(sandbox: Sandbox, _id: str, _nothing: Nothing) -> object:
    sandbox.faults.waiting.clear()
    return sandbox.faults.waiting


def _arm_loss(sandbox: Sandbox, _id: str, loss: Loss) -> object:
    sandbox.world.losses.waiting.append(loss)
    return sandbox.world.losses.waiting


def _disarm_losses(sandbox: Sandbox, _id: str, _nothing: Nothing) -> object:
    sandbox.world.losses.waiting.clear()
    return sandbox.world.losses.waiting


def _show_deliveries(sandbox: Sandbox, _id: str, _nothing: Nothing) -> object:
    types = {event["id"]: event["type"] for event in sandbox.world.tables["event"].values()}
    listed = [
        msgspec.to_builtins(delivery) | {"type": types[delivery.event_id]} for delivery in sandbox.outbox.deliveries.values()
    ]
    return {"switches": sandbox.outbox.switches, "deliveries": listed}


def _show_pending(sandbox: Sandbox, _id: str, _nothing: Nothing) -> object:
    return [delivery for delivery in sandbox.outbox.deliveries.values() if delivery.state == "pending"]


def _switch(sandbox: Sandbox, _id: str, switches: Switches) -> object:
    sandbox.outbox.switch(switches)
    return sandbox.outbox.switches


def _pause(sandbox: Sandbox, _id: str, at: At) -> object:
    now = sandbox.outbox.switches
    if at.endpoint is None:
        return _switch(sandbox, "", msgspec.structs.replace(now, paused=True))
    sandbox.world.get("endpoint", at.endpoint)
    return _switch(sandbox, "", msgspec.structs.replace(now, paused_endpoints=(*now.paused_endpoints, at.endpoint)))


def _resume(sandbox: Sandbox, _id: str, at: At) -> object:
    now = sandbox.outbox.switches
    if at.endpoint is None:
        return _switch(sandbox, "", msgspec.structs.replace(now, paused=False, paused_endpoints=()))
    left = tuple(one for one in now.paused_endpoints if one != at.endpoint)
    return _switch(sandbox, "", msgspec.structs.replace(now, paused_endpoints=left))


def _show_clock(sandbox: Sandbox, _id: str, _nothing: Nothing) -> object:
    return {"now": sandbox.clock.now(), "ahead_seconds": round(sandbox.clock.ahead_seconds, 3)}


def _advance(sandbox: Sandbox, _id: str, wish: Advance) -> object:
    sandbox.advance(wish.advance_seconds)
    return _show_clock(sandbox, "", Nothing())


def _clear(sandbox: Sandbox, _id: str, _nothing: Nothing) -> object:
    sandbox.clear()
    return {"faults": sandbox.faults.waiting, "losses": sandbox.world.losses.waiting, "switches": sandbox.outbox.switches}


LEVERS = (
    Lever("GET", "health", Nothing, lambda *_: {"status": "ok"}),
    Lever("GET", "faults", Nothing, lambda sandbox, *_: sandbox.faults.waiting),
    Lever("POST", "faults", Fault, _arm_fault),
    Lever("DELETE", "faults", Nothing, _disarm_faults),
    Lever("GET", "losses", Nothing, lambda sandbox, *_: sandbox.world.losses.waiting),
    Lever("POST", "losses", Loss, _arm_loss),
    Lever("DELETE", "losses", Nothing, _disarm_losses),
    Lever("GET", "deliveries", Nothing, _show_deliveries),
    Lever("GET", "deliveries/pending", Nothing, _show_pending),
    Lever("PUT", "deliveries", Switches, _switch),
    Lever("POST", "deliveries/pause", At, _pause),
    Lever("POST", "deliveries/resume", At, _resume),
    Lever("POST", "events/{id}/redeliver", At, lambda sandbox, name, at: sandbox.outbox.once_more(name, at.endpoint)),
    Lever("POST", "events/{id}/forge", Forged, lambda sandbox, name, it: sandbox.outbox.once_more(name, it.endpoint, it.kind)),
    Lever(
        *("POST", "webhook_endpoints/{id}/roll", Roll),
        lambda sandbox, name, roll: {"secret": sandbox.roll_secret(name, roll.overlap_seconds)},
    ),
    Lever("GET", "clock", Nothing, _show_clock),
    Lever("POST", "clock", Advance, _advance),
    Lever("POST", "clear", Nothing, _clear),
)


def handler(sandbox: Sandbox, lever: Lever) -> Handler:
    """Return the aiohttp handler of this switch: 400 says what is wrong with the words, 404 which id is unknown."""

    async def handle(request: web.Request) -> web.Response:
        try:
            wish = msgspec.json.decode(await request.read() or b"{}", type=lever.reads)
            return _json(lever.pull(sandbox, request.match_info.get("id", ""), wish))
        except ApiError as unknown:
            return _json({"error": unknown.message}, status=unknown.status)
        except (msgspec.DecodeError, ValueError) as fault:
            return _json({"error": str(fault)}, status=400)

    return handle


def _json(value: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return web.Response(status=status, body=body, content_type="application/json")
