"""Composition root: every route of the sandbox on one screen."""

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from deploy.dev.stripe import gate
from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.control import Control
from deploy.dev.stripe.page import FOLDER, Pages, pages_instead
from deploy.dev.stripe.sandbox import Sandbox, Settings

BODY_BYTES_MAX = 1024 * 1024


def build(settings: Settings) -> web.Application:
    """Return the application; it takes up its kept state at start and stops cleanly."""
    sandbox = Sandbox(settings)
    pages, control = Pages(sandbox), Control(sandbox)
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[pages_instead])
    app.cleanup_ctx.append(_running(sandbox))

    for route in ROUTES:
        app.router.add_route(route.method, route.path, gate.handler(sandbox, route))
    app.router.add_route("*", "/v1/{rest:.*}", gate.unknown_url)

    app.router.add_get("/c/pay/{id}", pages.show_checkout)
    app.router.add_post("/c/pay/{id}", pages.submit_checkout)
    app.router.add_get("/3ds/{id}", pages.show_challenge)
    app.router.add_post("/3ds/{id}", pages.submit_challenge)
    app.router.add_get("/receipts/{id}", pages.show_receipt)
    app.router.add_static("/_assets", FOLDER / "assets")

    app.router.add_get("/_sandbox/health", control.health)
    app.router.add_get("/_sandbox/faults", control.show_faults)
    app.router.add_post("/_sandbox/faults", control.arm_fault)
    app.router.add_delete("/_sandbox/faults", control.disarm_faults)
    app.router.add_get("/_sandbox/deliveries", control.show_deliveries)
    app.router.add_put("/_sandbox/deliveries", control.switch_deliveries)
    app.router.add_post("/_sandbox/deliveries/pause", control.pause)
    app.router.add_post("/_sandbox/deliveries/resume", control.resume)
    app.router.add_post("/_sandbox/events/{id}/redeliver", control.redeliver)
    app.router.add_post("/_sandbox/clear", control.clear)
    return app


def runner(settings: Settings) -> web.AppRunner:
    """Return a runner for the application; a client that hangs up ends its own call."""
    return web.AppRunner(build(settings), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)


def _running(sandbox: Sandbox) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(_app: web.Application) -> AsyncIterator[None]:
        sandbox.start()
        yield
        await sandbox.stop()

    return context
