"""The pipeline's four processes as pieces of the box, and the tables and topics that they need before they start."""

import asyncio
import http.client
import sys
from collections.abc import Callable, Mapping

from pydantic import SecretStr

from deploy.dev.processes.ports import LOOPBACK
from deploy.dev.processes.process import Piece
from deploy.dev.seed import store
from deploy.dev.services import kafka_settings, keys
from deploy.dev.services.environment import ChosenPorts
from deploy.dev.state import PROJECT, Box
from shared import settings
from shared.db import migrate
from shared.kafka import acls, provision

PROCESSES = {
    "ingress": "ingress",
    "payments": "consumers.payments",
    "bookings": "consumers.bookings",
    "email": "consumers.email",
}
PORTS = tuple(f"{name}-health" for name in PROCESSES)
PROBE_SECONDS_MAX = 0.5


def pieces(box: Box, environment: Mapping[str, str], ports: ChosenPorts) -> list[Piece]:
    """Return the four; `environment` is the box's own (environment.of_whole_box), its user of Kafka an operator's."""
    return [
        Piece(
            name=name,
            command=(sys.executable, "-m", module),
            environment={
                **environment,
                **keys.variables(box, name),
                "PYTHONPATH": str(PROJECT),
                "HEALTH_HOST": LOOPBACK,
                "HEALTH_PORT": str(ports[f"{name}-health"]),
                # Restarted after a crash it takes its partitions back at once, not after the session's 12 s.
                "KAFKA_INSTANCE_ID": "box",
            },
            ready=_ready_on(ports[f"{name}-health"]),
        )
        for name, module in PROCESSES.items()
    ]


def make_tables(database_url: str) -> None:
    """Migrate the database and make sure that it holds the people and a booking to pay for."""

    async def make() -> None:
        database = settings.Database(database_url=SecretStr(database_url))
        await migrate.upgrade(database)
        await store.seed(database)

    asyncio.run(make())


def make_topics(variables: Mapping[str, str]) -> None:
    """Create missing topics and, in a secured box, grant the pipeline's users access to them."""
    kafka = kafka_settings.of(variables)

    async def make() -> None:
        await provision.apply(kafka)
        if kafka.kafka_sasl_username:
            await acls.apply(kafka)

    asyncio.run(make())


def _ready_on(port: int) -> Callable[[str], bool]:
    def is_ready(_said: str) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS_MAX)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return is_ready
