"""The door as a process: what it says at start, on bad days, and how it leaves."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from deploy.dev.processes.ports import any_free
from ingress.publisher import Publisher
from shared import settings, topics
from shared.kafka import provision
from tests.journey.forked import Forked
from tests.support.builders import Sale, bytes_of
from tests.support.door import ORIGIN, WEBHOOK_SECRET, opened, signed
from tests.support.frozen import frozen
from tests.support.members import BrokerAlone, make_topics
from tests.support.waiting import until


class Process:
    """One `ingress`, forked, with the environment that it was given."""

    def __init__(self, log, *, module="ingress", **environment):
        self.port, self.log, self.module = any_free(()), log, module
        self.health = any_free({self.port})
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": "postgresql://cb@127.0.0.1:9/nowhere",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "STRIPE_SECRET_KEY": "sk_test_" + "k" * 24,
            "STRIPE_API_BASE": "http://127.0.0.1:9",
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "JWT_SECRET_KEY": "j" * 32,
            "CHECKOUT_ALLOWED_ORIGINS": ORIGIN,
            "INGRESS_HOST": "127.0.0.1",
            "INGRESS_PORT": str(self.port),
            "HEALTH_PORT": str(self.health),
            **environment,
        }

    async def start(self):
        self.running = await Forked.start(self.module, environment=self.environment, log=self.log)

    async def until_served(self):
        async def served():
            assert self.running.returncode is None, self.said()
            return "ingress.served" in self.said()

        await until(served, "the door is served", deadline_seconds=30)

    async def until_ready(self, status=200):
        async def ready():
            assert self.running.returncode is None, self.said()
            with suppress(aiohttp.ClientError):
                return (await self.get(self.health, "/health/ready"))[0] == status

        await until(ready, f"/health/ready is {status}", deadline_seconds=30)

    async def get(self, port, path):
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    async def deliver(self, body):
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"http://127.0.0.1:{self.port}/payment/webhook", data=body, headers={"Stripe-Signature": signed(body)}
            ) as answer,
        ):
            return answer.status, answer.headers.get("Retry-After")

    @asynccontextmanager
    async def half_delivered(self):
        """Have a webhook under way; give where its answer will come, and what sends the rest."""
        body = bytes_of(Sale().succeeded())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /payment/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nStripe-Signature: {signed(body)}"
        writer.write(f"{head}\r\n\r\n".encode() + body[:100])
        await writer.drain()
        # A second request is answered after the first one's head was read: the first is under way now.
        await self.get(self.port, "/openapi.json")
        yield reader, lambda: writer.write(body[100:])
        writer.close()

    async def stop(self):
        """SIGTERM; give the exit status and the seconds it took."""
        began = asyncio.get_running_loop().time()
        self.running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            status = await self.running.wait()
        return status, asyncio.get_running_loop().time() - began

    def said(self):
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
async def started(tmp_path):
    """Start processes that are gone afterwards."""
    made = []

    async def start(**arguments):
        process = Process(tmp_path / f"ingress-{len(made)}.log", **arguments)
        made.append(process)
        await process.start()
        return process

    yield start
    for process in made:
        with suppress(ProcessLookupError):
            process.running.send_signal(signal.SIGKILL)
        await process.running.wait()


def joined(database, kafka):
    """The environment of a door on the test's database and topics."""
    return {
        "DATABASE_URL": database.database_url.get_secret_value(),
        "KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.kafka_bootstrap_servers),
        "TOPIC_PREFIX": kafka.topic_prefix,
    }


async def test_every_fault_of_the_settings_is_one_line(started):
    """Exit status 2 at once, one line a fault, each naming its variable; no secret is told."""
    process = await started(
        STRIPE_WEBHOOK_SECRET="whsec_short",
        JWT_SECRET_KEY="",
        CHECKOUT_ALLOWED_ORIGINS="http://evil.example",
        INGRESS_PORT="x",
    )

    async with asyncio.timeout(20):
        assert await process.running.wait() == 2
    lines = process.said().splitlines()
    assert len(lines) == 4
    for variable in ("STRIPE_WEBHOOK_SECRET", "JWT_SECRET_KEY", "CHECKOUT_ALLOWED_ORIGINS", "INGRESS_PORT"):
        assert [line for line in lines if variable in line], process.said()
    assert "whsec_short" not in process.said()


async def test_a_taken_port_is_told_in_one_line(started):
    """Exit status 1: whoever asked for this port must hear of it."""
    first = await started()
    await first.until_served()

    second = await started(INGRESS_PORT=str(first.port))

    async with asyncio.timeout(20):
        assert await second.running.wait() == 1
    assert "ingress.not_served" in second.said()
    assert "Traceback" not in second.said()


async def test_without_kafka_and_database_the_door_stands_and_says_so_once(started):
    """Webhooks are 503 with Retry-After at once, health says why, the log says it one time, SIGTERM ends it with 0."""
    process = await started()
    await process.until_served()

    answers = [await process.deliver(bytes_of(Sale().succeeded())) for _ in range(3)]
    ready = await process.get(process.health, "/health/ready")
    metrics = await process.get(process.health, "/metrics")
    live = await process.get(process.health, "/health/live")

    assert answers == [(503, "2")] * 3
    assert ready[0] == 503
    assert "Kafka" in ready[1]
    assert "\nprocess_ready 0.0\n" in metrics[1]
    assert live[0] == 200
    status, seconds = await process.stop()
    assert status == 0, process.said()
    assert seconds < 10
    assert process.said().count("kafka.away") == 1
    assert "Traceback" not in process.said()


async def test_ready_on_kafka_alone(started, database, kafka):
    """The database is away: the door is ready, takes webhooks, and shows its metrics only on its own port."""
    await provision.apply(kafka)
    process = await started(**{**joined(database, kafka), "DATABASE_URL": "postgresql://cb@127.0.0.1:9/nowhere"})

    await process.until_ready()

    assert (await process.deliver(bytes_of(Sale().succeeded())))[0] == 200
    metrics = await process.get(process.health, "/metrics")
    assert 'webhook_requests_total{outcome="accepted"} 1.0' in metrics[1]
    assert "\nprocess_ready 1.0\n" in metrics[1]
    assert (await process.get(process.port, "/metrics"))[0] == 404
    assert (await process.stop())[0] == 0


async def test_what_is_under_way_is_finished(started, database, kafka):
    """SIGTERM in the middle of a delivery: it is taken and answered, then the process ends with 0."""
    await provision.apply(kafka)
    process = await started(**joined(database, kafka))
    await process.until_ready()
    async with process.half_delivered() as (reader, rest):
        process.running.send_signal(signal.SIGTERM)
        await process.until_ready(503)
        rest()

        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            assert await process.running.wait() == 0


async def test_a_door_that_can_publish_nothing_more_asks_for_its_restart(started, database, kafka):
    """Kafka is well, and every webhook would be 503 for ever: it is not live, answers what is under way, and ends with 1."""
    await provision.apply(kafka)
    process = await started(module="tests.journey.frail_door", **joined(database, kafka))
    await process.until_ready()
    assert (await process.get(process.health, "/health/live"))[0] == 200
    async with process.half_delivered() as (reader, rest):
        process.running.send_signal(signal.SIGUSR1)

        async def refused():
            return await process.deliver(bytes_of(Sale().succeeded())) == (503, "2")

        await until(refused, "no webhook is taken any more", deadline_seconds=5)
        live = await process.get(process.health, "/health/live")
        rest()

        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
            assert await process.running.wait() == 1
    assert live[0] == 503
    assert "sender task ended" in live[1]
    assert "process.gave_up" in process.said()


async def test_two_processes_share_a_port_when_asked(started):
    """INGRESS_REUSE_PORT: one host, several processes, one address."""
    first = await started(INGRESS_REUSE_PORT="true")
    await first.until_served()
    second = await started(INGRESS_REUSE_PORT="true", INGRESS_PORT=str(first.port))
    await second.until_served()

    assert (await first.get(first.port, "/openapi.json"))[0] == 200
    assert (await first.stop())[0] == 0
    assert (await second.get(first.port, "/openapi.json"))[0] == 200


@asynccontextmanager
async def own_kafka(folder):
    """A broker that this test may stop and freeze."""
    services = BrokerAlone(folder, durable=False)
    environment = await asyncio.to_thread(services.start)
    try:
        yield settings.Kafka(_env_file=None, kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"]), services.broker
    finally:
        await asyncio.to_thread(services.stop)


async def test_a_frozen_kafka_is_503_within_five_seconds(database, tmp_path):
    """Whatever Kafka does, Stripe hears within 5 s; when Kafka is back so are the 200s, and nobody lends a hand."""
    async with own_kafka(tmp_path / "box") as (kafka, broker):
        await make_topics(kafka, topics.STRIPE_EVENTS)
        publisher = Publisher(kafka, topics.STRIPE_EVENTS.name)
        async with publisher.reaching(), opened(database, publisher=publisher) as door:
            body = bytes_of(Sale().succeeded())

            async def accepted():
                return (await door.deliver(body))[0] == 200

            await until(accepted, "the first webhook is taken", deadline_seconds=20)
            with frozen(broker.pid):
                began = asyncio.get_running_loop().time()
                answers = await asyncio.gather(*(door.deliver(bytes_of(Sale().succeeded())) for _ in range(20)))
                took = asyncio.get_running_loop().time() - began

            assert {(status, said["code"]) for status, said in answers} == {(503, "kafka_unavailable")}
            assert took < 5.5
            await until(accepted, "webhooks are taken again", deadline_seconds=30)
