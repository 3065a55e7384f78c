"""How our four processes end when nothing goes as it should: told to before they are up, and with something that never ends."""

import asyncio
import json
import os
import signal
from contextlib import suppress

import pytest

from deploy.dev.processes.ports import any_free
from tests.journey.forked import Forked
from tests.support.door import ORIGIN, WEBHOOK_SECRET
from tests.support.waiting import until

PROCESSES = ("ingress", "consumers.payments", "consumers.bookings", "consumers.email")
STATUS_WITHIN_SECONDS = 60


@pytest.fixture
async def started(tmp_path):
    """Start processes with settings that lead nowhere; they are gone afterwards."""
    made = []

    async def start(module, **environment):
        log = tmp_path / f"{len(made)}.log"
        log.touch()
        nowhere = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": "postgresql://cb@127.0.0.1:9/nowhere",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "HEALTH_PORT": "0",
            "STRIPE_SECRET_KEY": "sk_test_" + "k" * 24,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "JWT_SECRET_KEY": "j" * 32,
            "CHECKOUT_ALLOWED_ORIGINS": ORIGIN,
            "INGRESS_HOST": "127.0.0.1",
            "INGRESS_PORT": str(any_free(())),
        }
        made.append(await Forked.start(module, environment=nowhere | environment, log=log))
        return made[-1], log

    yield start
    for process in made:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def status(process):
    async with asyncio.timeout(STATUS_WITHIN_SECONDS):
        return await process.wait()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", PROCESSES)
async def test_who_is_told_to_end_before_it_is_up_ends_at_once_with_0(started, tmp_path, module, signum):
    """It reads its settings still, from a file that never says anything: nothing is under way, and no loop listens yet."""
    os.mkfifo(tmp_path / "address")
    process, log = await started(module, DATABASE_URL="", DATABASE_URL_FILE=str(tmp_path / "address"))

    def reads():
        assert process.returncode is None, log.read_text()
        with suppress(OSError):  # nobody reads it yet
            return os.open(tmp_path / "address", os.O_WRONLY | os.O_NONBLOCK)

    held = await until(reads, "it reads its settings", deadline_seconds=STATUS_WITHIN_SECONDS)
    process.send_signal(signum)
    os.close(held)  # Python hears of a signal that came right before it began to read only when the read ends
    assert await status(process) == 0
    assert log.read_text() == ""


@pytest.mark.parametrize(
    ("name", "up", "environment"),
    [
        ("door", "ingress.served", {}),
        ("door", "kafka.away", {"INGRESS_REUSE_PORT": "on"}),  # it waits for Kafka before it opens the port
        ("consumer", "kafka.away", {}),
    ],
    ids=["door", "door that shares its port", "consumer"],
)
async def test_who_was_told_to_end_ends_with_0_whatever_still_waits(started, name, up, environment):
    """9.5 s after SIGTERM, here sooner: a client library that waits for ever is no failure of ours, and costs no kill -9."""
    process, log = await started("tests.journey.never_ending", PROCESS=name, **environment)

    def is_up():
        assert process.returncode is None, log.read_text()
        return said(log, up)

    await until(is_up, "it is up")
    process.send_signal(signal.SIGTERM)

    assert await status(process) == 0
    assert len(said(log, "process.stopped_hard")) == 1


@pytest.mark.parametrize("name", ["door", "consumer"])
async def test_who_gave_up_ends_with_1_whatever_still_waits(started, name):
    """Nobody told it to end: by its status whoever runs it knows that it has to be started anew."""
    process, log = await started("tests.journey.never_ending", PROCESS=name, BROKEN="1")

    assert await status(process) == 1
    assert len(said(log, "process.stopped_hard")) == 1


def said(log, event):
    """Every log line of this event."""
    lines = (line for line in log.read_text().splitlines() if line.startswith("{"))
    return [line for text in lines if (line := json.loads(text))["event"] == event]
