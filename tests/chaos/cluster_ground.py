"""The cluster's containers from outside: killed, stopped, started again, waited for; its balancer, its mailbox, its topics.

`Cluster` needs the stack of deploy/cluster/compose.yml up. Processes are killed and started by the engine's own command, so
that what is killed is a container, whatever engine it is.
"""

import asyncio
import json
import re
import subprocess
from contextlib import suppress

import aiohttp
import msgspec
from aiokafka.errors import KafkaError

from deploy.dev import settings as machine
from deploy.dev.demo.compose import Composition
from deploy.dev.state import PROJECT
from shared import settings
from shared.db import engine as engines
from tests.journey.pipeline import signature
from tests.support import corpus
from tests.support.members import administration
from tests.support.waiting import until

COMPOSITION = Composition(
    command="chaos-cluster",
    name="culturebridge-chaos",
    file=PROJECT / "deploy" / "cluster" / "compose.yml",
    published={
        "POSTGRES": 5432,
        "KAFKA": 29092,
        "KAFKA_2": 29093,
        "KAFKA_3": 29094,
        "INGRESS": 8000,
        "BALANCER": 8404,
        "SANDBOX": 12111,
        "MAILBOX": 8025,
    },
    instead="; `make chaos-door` and `make chaos-letters` need none",
)
# What the generator signs with.
TOLD = {"STRIPE_WEBHOOK_SECRET": corpus.SECRET}
WELL_SECONDS_MAX = 120
LOOK_EVERY_SECONDS = 0.5  # each look costs a process of Docker's
REDISPATCHED = re.compile(r'^haproxy_backend_redispatch_warnings_total\{proxy="webhooks"\} (\d+)', re.MULTILINE)
SENT_TO = 'haproxy_server_status{{proxy="webhooks",server="{door}",state="UP"}} 1'


class Letter(msgspec.Struct):
    """What is asked of a letter in the mailbox: which one it is."""

    id: str
    message_id: str


class Cluster:
    """The stack while it is up; use it as an async context."""

    def __init__(self, stack):
        self._stack = stack
        told = stack.variables
        self.kafka = settings.Kafka(kafka_bootstrap_servers=told["KAFKA_BOOTSTRAP_SERVERS"])
        self.engine = engines.create(settings.Database(database_url=told["DATABASE_URL"]), application="chaos")
        self.port = stack.port("INGRESS")
        self._mailbox = told["CB_DEV_MAILBOX_URL"]
        self._containers = dict(line.split() for line in stack.asked("ps", "--format", "{{.Service}} {{.ID}}"))

    async def __aenter__(self):
        self.http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_):
        await self.http.close()
        await self.engine.dispose()

    async def kill(self, service):
        """kill -9: nothing of it says goodbye."""
        await self._docker("kill", "--signal", "KILL", self._containers[service])

    async def stop(self, service):
        """SIGTERM, and as much time as the file gives it."""
        await self._docker("stop", self._containers[service])

    async def start(self, service):
        """Start its container again, with the disk that it had, and wait until whoever may be next can be away."""
        await self._docker("start", self._containers[service])
        told = await self._docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", self._containers[service])
        [_, *check] = json.loads(told.stdout)
        await _until(lambda: self._is_well(service, check), f"{service} is well")
        if service.startswith("ingress"):
            await _until(lambda: self._is_sent_to(service), f"the balancer sends to {service}")
        if service.startswith("kafka"):
            await self.until_in_sync()

    async def until_in_sync(self):
        """Wait until no partition lacks a replica: the next broker may then be away."""
        await _until(self._is_in_sync, "every replica is in sync")

    async def redispatched(self):
        """How often the balancer went to the other door with a webhook, since it started."""
        return int(REDISPATCHED.search(await self._balancer_says())[1])

    async def letters(self):
        """Every letter in the mailbox, copies among them."""
        async with self.http.get(f"{self._mailbox}/api/letters", timeout=aiohttp.ClientTimeout(total=300)) as answer:
            return msgspec.json.decode(await answer.read(), type=list[Letter])

    async def deliver(self, body):
        """Knock until the answer is 200, as Stripe would over three days."""

        async def is_taken():
            with suppress(aiohttp.ClientError, TimeoutError):
                headers = {"Stripe-Signature": signature(body), "Content-Type": "application/json"}
                url = f"http://127.0.0.1:{self.port}/payment/webhook"
                async with self.http.post(url, data=body, headers=headers) as answer:
                    return answer.status == 200
            return False

        await until(is_taken, "a webhook that was not taken is taken when it is sent again")

    async def _is_in_sync(self):
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(10), administration(self.kafka) as admin:
                described = await admin.describe_topics()
                return all(len(p["isr"]) == len(p["replicas"]) == 3 for topic in described for p in topic["partitions"])
        return False

    async def _is_well(self, service, check):
        return (await self._docker("exec", self._containers[service], *check, check=False)).returncode == 0

    async def _is_sent_to(self, door):
        return SENT_TO.format(door=door) in await self._balancer_says()

    async def _balancer_says(self):
        async with self.http.get(f"http://127.0.0.1:{self._stack.port('BALANCER')}/metrics") as answer:
            return await answer.text()

    async def _docker(self, *words, check=True):
        return await asyncio.to_thread(
            subprocess.run,
            ["docker", *words],
            env=machine.passed_on_to_docker(),
            check=check,
            capture_output=True,
            text=True,
        )


async def _until(condition, what):
    await until(condition, what, deadline_seconds=WELL_SECONDS_MAX, every_seconds=LOOK_EVERY_SECONDS)
