"""What tests of Kafka share: small topics, raw records, members of a group, a broker to kill, a consumer's real process."""

import asyncio
import json
import os
import signal
import time
import uuid
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.dev.jars import cache
from deploy.dev.processes.ports import is_free
from deploy.dev.services import environment
from deploy.dev.services.stack import Services
from shared import settings, topics
from shared.kafka import broker, connection
from shared.kafka.liveness import Liveness
from shared.kafka.records import incoming
from shared.kafka.subscription import Subscription
from tests.journey.forked import Forked
from tests.support.waiting import DEADLINE_SECONDS, until

THINGS = topics.Topic("things", key="", value="", producers=(), consumers=(), retention_days=1)
_SHORT = aiohttp.ClientTimeout(total=5)


class BrokerAlone(Services):
    """A broker of one test's own, which it may stop and kill: no database beside it."""

    def bring_up(self):
        cache.ensure(self.voice)
        self.start_broker()

    def environment(self):
        return environment.of_cluster(self.box, self.ports, brokers=self.brokers)


@asynccontextmanager
async def administration(kafka):
    admin = AIOKafkaAdminClient(**connection.for_aiokafka(kafka))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topics(kafka, *made, partitions=1):
    """Make topics of the map under this test's prefix, smaller than the map says."""
    async with administration(kafka) as admin:
        new = [NewTopic(t.named(kafka.topic_prefix), partitions, 1) for t in made]

        async def are_made():
            with suppress(AttributeError):  # aiokafka's, while a broker that stood still has no session again
                return await admin.create_topics(new)

        await until(are_made, "the topics are made")
        names = [topic.named(kafka.topic_prefix) for topic in made]

        async def all_lead():
            described = await admin.describe_topics(names)
            return all(d["error_code"] == 0 and all(p["error_code"] == 0 for p in d["partitions"]) for d in described)

        await until(all_lead, "the topics have leaders")


async def put(kafka, topic, *values, partition=0, headers=(), keys=None, timestamp_ms=None, **options):
    """Append records, acknowledged, by a producer that is not ours; return the offset of the last."""
    client = AIOKafkaProducer(**connection.for_aiokafka(kafka), acks="all", enable_idempotence=False, **options)
    await client.start()
    try:
        sent = [
            await client.send(
                topic.named(kafka.topic_prefix),
                value,
                key=keys and keys[i],
                partition=partition,
                headers=list(headers),
                timestamp_ms=timestamp_ms,
            )
            for i, value in enumerate(values)
        ]
        return (await asyncio.gather(*sent))[-1].offset if sent else None
    finally:
        await client.stop()


async def everything(kafka, topic):
    """Read a topic from its first record to its present end."""
    name = topic.named(kafka.topic_prefix)
    client = AIOKafkaConsumer(**connection.for_aiokafka(kafka), auto_offset_reset="earliest")
    await client.start()
    try:
        await client._client._wait_on_metadata(name)
        places = [TopicPartition(name, number) for number in client.partitions_for_topic(name)]
        client.assign(places)
        ends = await client.end_offsets(places)
        found = []
        while sum(len([r for r in found if r.partition == p.partition]) for p in places) < sum(ends.values()):
            for records in (await client.getmany(timeout_ms=200)).values():
                found += records
        return [incoming(record) for record in found]
    finally:
        await client.stop()


async def committed(kafka, topic, group="group"):
    """What a group has committed, by partition; partitions without a commit are left out."""
    async with administration(kafka) as admin:
        offsets = await admin.list_consumer_group_offsets(kafka.topic_prefix + group)
    name = topic.named(kafka.topic_prefix)
    return {place.partition: at.offset for place, at in offsets.items() if place.topic == name and at.offset >= 0}


class End:
    """The end of a process that only this test knows: a real one listens to signals."""

    def __init__(self):
        self.stopping, self.fault = asyncio.Event(), None

    def fail(self, fault):
        self.fault = fault


class Member:
    """One subscription with its broker, in this process."""

    def __init__(self, subscription, consuming, end):
        self.subscription = subscription
        self.liveness = Liveness(subscription)
        self.consuming = consuming
        self.end = end

    @property
    def consumer(self):
        return self.subscription.consumer

    @property
    def partitions(self):
        return {place.partition for place in self.consumer.assignment()}

    async def stop(self):
        self.end.stopping.set()
        await self.consuming.stop()


@asynccontextmanager
async def member(kafka, handle, *, topic=THINGS, group="group", client_id="tests", **options):
    """Join a group and consume until the block ends; of several members the first by name gets the first partition."""
    end = End()
    subscription = Subscription(topic, group, handle, kafka, end, **options)
    consuming = broker.create(kafka, client_id=client_id, subscriptions=[subscription])
    await broker.start(consuming)
    joined = Member(subscription, consuming, end)
    try:
        yield joined
    finally:
        await joined.stop()


class Taken:
    """A handler that remembers; `fails` decides whether a batch raises, `holds` what it waits for."""

    def __init__(self, *, fails=lambda _records: None, holds=None):
        self.calls = 0
        self.records = []
        self.started = []
        self._fails, self._holds = fails, holds

    async def __call__(self, records):
        self.calls += 1
        self.started += records
        if self._holds is not None:
            await self._holds.wait()
        if error := self._fails(records):
            raise error
        self.records += records

    @property
    def values(self):
        return [record.value for record in self.records]


class Process:
    """`python -m consumers.<name>`, forked, with what it says in a log."""

    def __init__(self, name, log, **environment):
        self.name, self.log = name, log
        self.health = _free_port()
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
        self._environment = inherited | {"HEALTH_PORT": str(self.health)} | environment
        self._process = None

    async def start(self):
        self.log.touch()
        self._process = await Forked.start(f"consumers.{self.name}", environment=self._environment, log=self.log)

    def said(self, event):
        """Every log line of this event, as dicts."""
        lines = (line for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for text in lines if (line := json.loads(text))["event"] == event]

    async def until_said(self, event, *, deadline_seconds=DEADLINE_SECONDS):
        def said_or_ended():
            assert self._process.returncode is None or self.said(event), self.log.read_text()[-3000:]
            return self.said(event)

        await until(said_or_ended, f"{self.name} says {event}", deadline_seconds=deadline_seconds)

    async def ask(self, path):
        """GET on the health port: status and body, or (None, None) when nobody answers."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(timeout=_SHORT) as http, http.get(f"http://127.0.0.1:{self.health}{path}") as got:
                return got.status, await got.text()
        return None, None

    async def answers(self, path, status):
        return (await self.ask(path))[0] == status

    async def kill(self):
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def terminate(self):
        """SIGTERM; return the exit status and how many seconds it took."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        status = await self.exit_status()
        return status, time.monotonic() - began

    async def exit_status(self, *, deadline_seconds=30):
        async with asyncio.timeout(deadline_seconds):
            return await self._process.wait()

    async def end(self):
        if self._process is not None and self._process.returncode is None:
            await self.kill()


@asynccontextmanager
async def process(name, tmp_path, *, database, kafka, **told):
    """Make a process of a consumer; it is started by the test, and gone afterwards."""
    made = Process(
        name,
        tmp_path / f"{name}-{uuid.uuid4().hex[:6]}.log",
        DATABASE_URL=database.database_url.get_secret_value(),
        KAFKA_BOOTSTRAP_SERVERS=",".join(kafka.kafka_bootstrap_servers),
        TOPIC_PREFIX=kafka.topic_prefix,
        **told,
    )
    try:
        yield made
    finally:
        await made.end()


def own_kafka(services):
    """Settings of a broker of the test's own."""
    return settings.Kafka(
        kafka_bootstrap_servers=services.environment()["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"t{uuid.uuid4().hex[:12]}."
    )


def _free_port():
    # Below those that the system hands to outgoing connections, so that none is taken between choice and use.
    return next(port for _ in range(1000) if is_free(port := 12_000 + uuid.uuid4().int % 8_000))
