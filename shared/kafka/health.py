"""Health and metrics of a process, on a port of its own: /health/live, /health/ready, /metrics.

Live = restart me if not. Ready = send me traffic, or look at `reasons`. Both answer JSON and never versions or addresses. A
scrape of /metrics has in `process_ready` what /health/ready would answer at that moment.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import errors, http_servers, logs, metrics, settings
from shared.db.error_names import error_name

log = logs.get(__name__)

# Kafka and the database have 2 s to answer, and the driver as long to close a silent connection. A probe of Kubernetes waits
# for 5 s, Prometheus for 10.
READY_WITHIN_SECONDS = 4.0
STOP_SECONDS_MAX = 0.5  # for requests at the end; aiohttp's default is a minute, all of which a client that reads nothing takes


class NotServed(errors.PipelineError):
    """The health port cannot be opened: another process has it, or this one lacks the right."""


Check = Callable[[], Awaitable[Sequence[str]]]
"""Returns what is wrong, in words for an operator; nothing when all is well."""


@asynccontextmanager
async def served(health: settings.Health, *, live: Check, ready: Check) -> AsyncIterator[int | None]:
    """Serve until the block ends; yield the port, or None when HEALTH_PORT is 0.

    Raises NotServed when a port that was set cannot be opened; in place of a default that is taken, any free port is used and
    logged.
    """
    if health.health_port == 0:
        yield None
        return
    app = web.Application()
    app.on_response_prepare.append(http_servers.hide_software)
    app.router.add_get("/health/live", _answering(live))
    app.router.add_get("/health/ready", _answering(ready))
    app.router.add_get("/metrics", _measuring(ready))
    runner = web.AppRunner(app, access_log=None, logger=http_servers.SILENCED, shutdown_timeout=STOP_SECONDS_MAX)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, health.health_host, health.health_port).start()
        except OSError as error:
            if health.health_port_is_strict:
                raise NotServed(f"HEALTH_PORT={health.health_port} cannot be had: {error_name(error)}") from error
            await web.TCPSite(runner, health.health_host, 0).start()
        port = runner.addresses[0][1]
        log.info("health.served", port=port)
        yield port
    finally:
        await runner.cleanup()


def _answering(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        try:
            reasons = list(await check())
        except Exception as error:
            log.exception("health.check_broke", error=type(error).__name__)
            reasons = [f"the check itself broke: {type(error).__name__}"]
        body = {"status": "unavailable" if reasons else "ok", "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)

    return answer


def _measuring(ready: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        metrics.process_ready.set(await _holds(ready))
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


async def _holds(check: Check) -> bool:
    """Return whether a check finds nothing wrong; False when it hangs or raises, since metrics are needed most then."""
    asked = asyncio.ensure_future(check())
    # Not asyncio.timeout, which waits for what it cancels: a driver takes long to close a connection to a silent server.
    done, _ = await asyncio.wait((asked,), timeout=READY_WITHIN_SECONDS)
    if not done or asked.cancelled():
        asked.cancel()
        return False
    if (error := asked.exception()) is not None:
        log.error("health.check_broke", error=type(error).__name__)
        return False
    return not asked.result()
