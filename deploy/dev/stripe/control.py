"""The switches under /_sandbox: arm faults, disturb deliveries, look at what happened. JSON in, JSON out."""

from typing import TypeVar

import msgspec
from aiohttp import web

from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.deliveries import Switches
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.faults import Fault
from deploy.dev.stripe.sandbox import Sandbox

T = TypeVar("T")


class Control:
    """The handlers of all switches."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def health(self, _request: web.Request) -> web.Response:
        """GET /_sandbox/health: 200 once the sandbox serves."""
        return _json({"status": "ok"})

    async def show_faults(self, _request: web.Request) -> web.Response:
        """GET /_sandbox/faults: what is armed."""
        return _json(self._sandbox.faults.armed)

    async def arm_fault(self, request: web.Request) -> web.Response:
        """POST /_sandbox/faults: arm one (``faults.Fault``)."""
        fault = await _read(request, Fault)
        names = [route.name for route in ROUTES]
        if fault.route not in names:
            raise _refused(f"route must be one of: {', '.join(names)}")
        self._sandbox.faults.armed.append(fault)
        return _json(self._sandbox.faults.armed)

    async def disarm_faults(self, _request: web.Request) -> web.Response:
        """DELETE /_sandbox/faults: disarm all."""
        self._sandbox.faults.armed.clear()
        return _json(self._sandbox.faults.armed)

    async def show_deliveries(self, _request: web.Request) -> web.Response:
        """GET /_sandbox/deliveries: the switches, and every delivery with all its attempts, oldest first."""
        types = {event["id"]: event["type"] for event in self._sandbox.world.tables["event"].values()}
        listed = [
            msgspec.to_builtins(delivery) | {"type": types[delivery.event_id]} for delivery in self._sandbox.deliveries.values()
        ]
        return _json({"switches": self._sandbox.courier.switches, "deliveries": listed})

    async def switch_deliveries(self, request: web.Request) -> web.Response:
        """PUT /_sandbox/deliveries: how they are disturbed from now on (``deliveries.Switches``)."""
        self._sandbox.courier.switch(await _read(request, Switches))
        return _json(self._sandbox.courier.switches)

    async def pause(self, _request: web.Request) -> web.Response:
        """POST /_sandbox/deliveries/pause: hold every delivery."""
        return self._paused(paused=True)

    async def resume(self, _request: web.Request) -> web.Response:
        """POST /_sandbox/deliveries/resume: go on with what was held."""
        return self._paused(paused=False)

    async def redeliver(self, request: web.Request) -> web.Response:
        """POST /_sandbox/events/{id}/redeliver: send an event once more, delivered or not."""
        try:
            return _json(self._sandbox.redeliver(request.match_info["id"]))
        except ApiError as unknown:
            return _json({"error": unknown.message}, status=unknown.status)

    async def clear(self, _request: web.Request) -> web.Response:
        """POST /_sandbox/clear: put every switch to rest."""
        self._sandbox.clear()
        return _json({"faults": self._sandbox.faults.armed, "switches": self._sandbox.courier.switches})

    def _paused(self, *, paused: bool) -> web.Response:
        self._sandbox.courier.switch(msgspec.structs.replace(self._sandbox.courier.switches, paused=paused))
        return _json(self._sandbox.courier.switches)


async def _read(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as fault:
        raise _refused(str(fault)) from fault


def _refused(message: str) -> web.HTTPBadRequest:
    text = msgspec.json.encode({"error": message}).decode()
    return web.HTTPBadRequest(text=text, content_type="application/json")


def _json(value: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return web.Response(status=status, body=body, content_type="application/json")
