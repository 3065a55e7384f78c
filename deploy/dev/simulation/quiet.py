"""Waits until nothing is on its way from Stripe, unread in Kafka, or unsent among the letters.

It looks upstream first: what is quiet there sends nothing more to what is looked at next. Next: run.py compares then.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.dev.simulation import store
from deploy.dev.simulation.patience import NotYet
from shared import settings, topics
from shared.kafka import connection

# The ladder of letters is not among them: its letters are under way in the ledger.
UPSTREAM_FIRST = (topics.STRIPE_EVENTS, topics.PAYMENTS_EVENTS, topics.BOOKINGS_EVENTS)
READERS = tuple((topic, group) for topic in UPSTREAM_FIRST for group in topic.groups)
FETCH_MS_MAX = 500


class Cluster:
    """The broker's topics and consumer groups; made by `reaching`."""

    def __init__(self, kafka: settings.Kafka, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        self._kafka = kafka
        self._admin = admin
        self._consumer = consumer

    async def unread(self, topic: topics.Topic, group: str) -> int:
        """Return how many records of a topic a group has not processed."""
        partitions = self._partitions(topic)
        ends, begins = await self._consumer.end_offsets(partitions), await self._consumer.beginning_offsets(partitions)
        committed = await self._admin.list_consumer_group_offsets(group, partitions=partitions)
        # A group that has committed nothing yet begins at the beginning; of one that only just comes up nothing is answered.
        known = {where: committed[where].offset for where in partitions if where in committed}
        done = {where: max(known.get(where, begins[where]), begins[where]) for where in partitions}
        return sum(ends[where] - done[where] for where in partitions)

    async def ends(self, *read: topics.Topic) -> dict[TopicPartition, int]:
        """Return where each partition of these topics ends now."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets([one for it in read for one in self._partitions(it)])
        return ends

    async def since(self, begins: Mapping[TopicPartition, int]) -> dict[str, list[bytes]]:
        """Return the values of all records from there to the end of now, by topic; in no group, so that nobody is disturbed."""
        found: dict[str, list[bytes]] = defaultdict(list)
        # A consumer of its own: aiokafka's fetcher may end when one is assigned partitions anew.
        async with AIOKafkaConsumer(**connection.for_aiokafka(self._kafka), group_id=None) as consumer:
            ends = await consumer.end_offsets(list(begins))
            consumer.assign(list(begins))
            for where, offset in begins.items():
                consumer.seek(where, offset)
            while any([await consumer.position(where) < end for where, end in ends.items()]):
                for where, records in (await consumer.getmany(timeout_ms=FETCH_MS_MAX)).items():
                    found[where.topic] += [record.value for record in records if record.value is not None]
        return found

    async def dead_letters(self) -> dict[str, int]:
        """Return how many records each topic of dead letters has ever had."""
        counts = {}
        for topic in topics.DEAD_LETTER_TOPICS:
            counts[topic.name] = sum((await self._consumer.end_offsets(self._partitions(topic))).values())
        return counts

    def _partitions(self, topic: topics.Topic) -> list[TopicPartition]:
        return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


@contextlib.asynccontextmanager
async def reaching(kafka: settings.Kafka) -> AsyncIterator[Cluster]:
    """Hold connections to the broker open; raises aiokafka.errors.KafkaError when it does not answer."""
    admin = AIOKafkaAdminClient(**connection.for_aiokafka(kafka))
    await admin.start()
    try:
        async with AIOKafkaConsumer(**connection.for_aiokafka(kafka), group_id=None) as consumer:
            yield Cluster(kafka, admin, consumer)
    finally:
        await admin.close()


async def look(
    http: aiohttp.ClientSession, sandbox: str, cluster: Cluster, engine: AsyncEngine, bookings: Sequence[str]
) -> None:
    """Return when everything is quiet; raises NotYet with what is not."""
    async with http.get(f"{sandbox}/_sandbox/deliveries/pending") as answer:
        owed = len(await answer.json())
    if owed:
        raise NotYet(f"{owed} webhooks are on their way")
    for topic, group in READERS:
        if left := await cluster.unread(topic, group):
            raise NotYet(f"{group} has not read {left} records of {topic.name}")
    if letters := await store.letters_under_way(engine, bookings):
        raise NotYet(f"{letters} letters are under way")
