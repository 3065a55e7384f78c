"""Looking into a topic of a test's own."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.kafka import connection
from shared.kafka.records import incoming


async def records_of(kafka, topic):
    """Every record of a topic, by partition and offset."""
    consumer = AIOKafkaConsumer(**connection.for_aiokafka(kafka), auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.named(kafka.topic_prefix), number) for number in range(topic.partitions)]
        wanted = sum((await consumer.end_offsets(partitions)).values())
        consumer.assign(partitions)
        found = []
        async with asyncio.timeout(30):
            while len(found) < wanted:
                batches = await consumer.getmany(timeout_ms=200)
                found += [incoming(raw) for batch in batches.values() for raw in batch]
    finally:
        await consumer.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))
