"""Composition root: every route of the sandbox on one screen."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

from aiohttp import web

from deploy.dev.stripe import clock, control, gate
from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.control import LEVERS
from deploy.dev.stripe.page import FOLDER, Pages, pages_instead
from deploy.dev.stripe.sandbox import Sandbox, Settings
from deploy.dev.stripe.switchboard import Switchboard

HOST = "127.0.0.1"  # loopback, unless asked: anybody who reaches a sandbox may pay with it
BODY_BYTES_MAX = 1024 * 1024


class Wishes(TypedDict):
    """What ``open_sandbox`` needs and may be told (``sandbox.Settings``)."""

    webhook_url: str
    webhook_secret: str
    state_folder: Path | None
    seed: NotRequired[int | None]
    merchant: NotRequired[str]
    now: NotRequired[clock.Clock]
    redirect_wait_seconds_max: NotRequired[float]


@asynccontextmanager
async def open_sandbox(
    port: int = 0, *, host: str = HOST, public_url: str | None = None, **wishes: Unpack[Wishes]
) -> AsyncIterator[Sandbox]:
    """Serve a sandbox while the block runs; port 0 takes a free one (``sandbox.settings.public_url``).

    ``public_url`` is where customers find its pages, when that is not where it listens: behind a port that a container
    publishes. Raises OSError where the port is taken.
    """
    with socket.create_server((host, port)) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        sandbox = Sandbox(Settings(public_url=public_url or address, **wishes))
        # A client that hangs up ends its own call, so that an armed hang ends with its victim.
        serving = web.AppRunner(_app(sandbox), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        sandbox.start()
        await serving.setup()
        await web.SockSite(serving, listening).start()
        try:
            yield sandbox
        finally:
            await serving.cleanup()
            await sandbox.stop()


def _app(sandbox: Sandbox) -> web.Application:
    pages = Pages(sandbox)
    switchboard = Switchboard(sandbox, pages.render)
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[pages_instead])

    for route in ROUTES:
        app.router.add_route(route.method, route.path, gate.handler(sandbox, route))
    app.router.add_route("*", "/v1/{rest:.*}", gate.unknown_url)

    app.router.add_get("/", pages.show_home)
    app.router.add_get("/c/pay/{id}", pages.show_checkout)
    app.router.add_post("/c/pay/{id}", pages.submit_checkout)
    app.router.add_get("/3ds/{id}", pages.show_challenge)
    app.router.add_post("/3ds/{id}", pages.submit_challenge)
    app.router.add_get("/receipts/{id}", pages.show_receipt)
    app.router.add_get("/switches", switchboard.show)
    app.router.add_post("/switches", switchboard.press)
    app.router.add_static("/_assets", FOLDER / "assets")

    for lever in LEVERS:
        app.router.add_route(lever.method, f"/_sandbox/{lever.path}", control.handler(sandbox, lever))
    return app
