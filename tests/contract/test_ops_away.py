"""`cb-ops` while the world is away: one line that says what and where, no traceback, no password, exit status 1."""

import asyncio
import socket

import pytest
from typer.testing import CliRunner

from deploy.ops import actions, insights
from deploy.ops.cli import app
from deploy.ops.errors import KafkaUnavailable, kafka_errors_as_ops_errors
from shared import clock, settings
from shared.db import engine
from shared.kafka.records import Record
from tests.support.builders import Sale, record

UNASKED = {"DATABASE_URL": "postgresql://cb@127.0.0.1:9/culturebridge"}


@pytest.fixture
def nobody():
    """A port where nobody listens, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize(
    "command",
    [("topics", "apply"), ("dlt", "list"), ("dlt", "replay", "email.dlt", "--all", "--by", "Ada")],
    ids=" ".join,
)
def test_a_kafka_that_is_away_is_one_line(command, nobody):
    """Nothing waits for ever before a person."""
    result = CliRunner().invoke(app, command, env={"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody}", **UNASKED})

    assert (result.exit_code, result.stderr) == (1, f"Kafka at 127.0.0.1:{nobody}: no broker answers\n")


def test_a_kafka_that_takes_connections_and_says_nothing_is_one_line(monkeypatch):
    """A firewall that swallows, or a wrong port: the wait has an end."""
    monkeypatch.setattr(insights, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = CliRunner().invoke(app, ("topics", "apply"), env={"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Kafka at 127.0.0.1:{port}: ")
    assert result.stderr.count("\n") == 1


async def test_a_kafka_that_is_away_when_events_are_offered_again_is_one_line(payments, database, nobody):
    """What waits is in the database, so that it is the first to ask for Kafka; the producer alone would wait for ever."""
    await payments.handle([record(Sale().refund())])
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody}",
        "DATABASE_URL": database.database_url.get_secret_value(),
    }

    offering = asyncio.to_thread(CliRunner().invoke, app, ("waiting", "replay", "--all"), env=environment)
    result = await asyncio.wait_for(offering, 20)

    assert (result.exit_code, result.stderr) == (1, f"Kafka at 127.0.0.1:{nobody}: no broker answers\n")


async def test_a_kafka_that_goes_away_before_anything_is_put_back_ends_the_wait(monkeypatch, nobody):
    """Whoever has read the dead letters, or asked Stripe for its events, waits no longer than for a first answer."""
    monkeypatch.setattr(insights, "ANSWER_SECONDS", 0.5)
    kafka = settings.Kafka(kafka_bootstrap_servers=f"127.0.0.1:{nobody}", _env_file=None)

    with pytest.raises(KafkaUnavailable, match="no broker answers"):
        async with asyncio.timeout(20), kafka_errors_as_ops_errors(kafka):
            await actions.put_back(kafka, [Record("stripe.events", b"evt_1", b"{}")])


@pytest.mark.parametrize(
    "command", [("migrate",), ("attention", "list"), ("why", "pi_1"), ("waiting", "list"), ("inbox", "prune")], ids=" ".join
)
def test_a_database_that_is_away_is_one_line_without_its_password(command, nobody):
    """Where, why, and no secret."""
    url = f"postgresql://cb:geheim@127.0.0.1:{nobody}/culturebridge"
    result = CliRunner().invoke(app, command, env={"DATABASE_URL": url})

    assert result.exit_code == 1
    assert result.stderr.startswith(f"PostgreSQL at 127.0.0.1:{nobody}/culturebridge: ")
    assert result.stderr.count("\n") == 1
    assert "geheim" not in result.stderr


@pytest.mark.parametrize("command", [("migrate",), ("why", "pi_1")], ids=" ".join)
def test_a_database_that_takes_connections_and_says_nothing_is_one_line(command, monkeypatch):
    """The same for all: who migrates does not look at a silent terminal for a minute."""
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = clock.monotonic()
        result = CliRunner().invoke(app, command, env={"DATABASE_URL": f"postgresql://cb@127.0.0.1:{port}/culturebridge"})

    assert (result.exit_code, result.stderr) == (1, f"PostgreSQL at 127.0.0.1:{port}/culturebridge: no answer in time\n")
    assert clock.monotonic() - begun < 10
