"""Health and metrics of a process, on a port of its own: /health/live, /health/ready, /metrics.

Live = restart me if not. Ready = send me traffic, or look at `reasons`. Both answer JSON and never versions or addresses.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import logs, settings

log = logs.get(__name__)

Check = Callable[[], Awaitable[Sequence[str]]]
"""Returns what is wrong, in words for an operator; nothing when all is well."""


@asynccontextmanager
async def served(health: settings.Health, *, live: Check, ready: Check) -> AsyncIterator[int | None]:
    """Serve until the block ends; give the port, or None when HEALTH_PORT is 0.

    Raises OSError when a port that was asked for is taken; a default that is taken gives way to any free one, logged.
    """
    if health.health_port == 0:
        yield None
        return
    app = web.Application()
    app.router.add_get("/health/live", _answering(live))
    app.router.add_get("/health/ready", _answering(ready))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, health.health_host, health.health_port).start()
        except OSError:
            if health.health_port_is_strict:
                raise
            await web.TCPSite(runner, health.health_host, 0).start()
        port = runner.addresses[0][1]
        log.info("health.served", port=port)
        yield port
    finally:
        await runner.cleanup()


def _answering(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        reasons = list(await check())
        body = {"status": "unavailable" if reasons else "ok", "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)

    return answer


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
