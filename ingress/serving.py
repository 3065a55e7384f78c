"""Read settings, build, serve, drain.

Enters: the environment. Leaves: exit status 0 after SIGTERM or SIGINT, within 10 s; 1 when the port is taken, or when something
broke that a restart must mend; 2 when a setting is missing or malformed. Next: app.py.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from aiohttp import web

from ingress import app, connections, http_rules, listener
from ingress.app import IngressSettings
from ingress.publisher import Publisher
from shared import ending, environment, garbage, http_servers, logs
from shared.kafka import health

log = logs.get("ingress")

KEEPALIVE_SECONDS = 75.0  # longer than a load balancer keeps idle connections, so that it never uses one we just closed
DRAIN_SECONDS_MAX = 5.0  # a webhook is answered within 5 s; a checkout that takes longer is resumed by its next call
SHUTDOWN_SECONDS_MAX = 0.5  # for what is under way even then; it is cancelled
LINGER_SECONDS_MAX = 1.0  # for the rest of a body that was refused; then the connection is closed
READ_BUFFER_BYTES = 16_384  # a connection may send twice this ahead of its turn; aiohttp's default is four times as much
REACH_SECONDS_MAX = 3.0  # without Kafka the port opens all the same, and webhooks get a 503


def main() -> int:
    """Run the door in this process."""
    logs.configure("ingress")
    configured = environment.read(IngressSettings)
    return ending.run_to_the_end(serve(configured))


async def serve(configured: IngressSettings) -> int:
    """Serve until a signal or a fault comes, then finish what is under way."""
    end = ending.End()
    files_max = listener.raise_files_max(configured.ingress_connections_max + connections.FILES_OF_OURS)
    clients = connections.of_settings(configured, files_max)
    async with app.opened(configured, clients) as (application, publisher), clients.watched():

        async def live() -> Sequence[str]:
            return [publisher.fault] if publisher.fault is not None else []

        async def ready() -> Sequence[str]:
            return ["draining"] if end.stopping.is_set() else await publisher.trouble()

        runner = runner_of(application)
        await runner.setup()
        try:
            async with health.served(configured, live=live, ready=ready):
                try:
                    door = await open_door(configured, publisher, clients.guarding(protocol_of(runner)))
                except OSError as error:
                    log.error("ingress.not_served", port=configured.ingress_port, reason=str(error))  # noqa: TRY400 - one line is enough
                    return 1
                await end.until_over(live)
                await door.stop()
                await clients.drained(seconds_max=DRAIN_SECONDS_MAX)
        finally:
            await runner.cleanup()
    return end.status()


async def open_door(
    configured: IngressSettings, publisher: Publisher, protocol: Callable[[], asyncio.Protocol]
) -> listener.Listener:
    """Listen where the settings say, on a shared port after a wait for Kafka; raises OSError when the port is taken."""
    if configured.ingress_reuse_port:
        # Other processes on the port can take the requests that would come here before Kafka is reached.
        await publisher.reached(seconds_max=REACH_SECONDS_MAX)
    door = await listener.listen(
        configured.ingress_host, configured.ingress_port, protocol, reuse_port=configured.ingress_reuse_port
    )
    garbage.collect_rarely()
    log.info("ingress.served", host=configured.ingress_host, port=configured.ingress_port)
    return door


def runner_of(application: web.Application) -> web.AppRunner:
    """Return the runner of an application; `protocol_of` needs it once it is set up."""
    return web.AppRunner(application, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS_MAX)


def protocol_of(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """Return the factory of HTTP protocols, with our limits, of a runner that was set up."""
    server = runner.server
    assert server is not None, "set the runner up first"
    server.request_factory = http_rules.correcting(server.request_factory)
    server.request_handler = http_rules.without_aiohttps_words(server.request_handler)
    return partial(
        http_rules.HttpProtocol,
        server,
        loop=asyncio.get_running_loop(),
        access_log=None,  # type: ignore[arg-type]  # aiohttp's own runner is typed for it, and passes it on
        logger=http_servers.SILENCED,  # errors of ours are logged in http_rules.py
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS_MAX,
        read_bufsize=READ_BUFFER_BYTES,
    )
