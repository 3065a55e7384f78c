"""A mark that is left in a box, a row and a record, and what is found of it later."""

import contextlib
import uuid

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.dev.services import database


async def leave_something(env):
    """Put a row and a record into the box, under a name of their own; returns what to look for."""
    mark = f"kept_{uuid.uuid4().hex}"
    async with connection(env) as connected:
        await connected.execute(f"create table {mark} as select '{mark}' as mark")
    servers = env["KAFKA_BOOTSTRAP_SERVERS"]
    async with admin(servers) as kafka:
        await kafka.create_topics([NewTopic(mark, num_partitions=1, replication_factor=1)])
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(mark, mark.encode())
    return mark


async def found(env, mark):
    """What `leave_something` left under this name: the marks in the database and in Kafka."""
    async with connection(env) as connected:
        rows = [row["mark"] for row in await connected.fetch(f"select mark from {mark}")]
    consumer = AIOKafkaConsumer(bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(mark, 0)])
        record = await consumer.getone()
    return rows, record.value.decode()


@contextlib.asynccontextmanager
async def connection(env):
    connected = await asyncpg.connect(env["DATABASE_URL"].replace("+asyncpg", ""))
    try:
        yield connected
    finally:
        connected.terminate()


@contextlib.asynccontextmanager
async def admin(servers):
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def spoil_the_database(box):
    """Leave a data folder that PostgreSQL refuses."""
    box.home.mkdir()
    data = database.folder(box) / "data"
    data.mkdir(parents=True)
