"""Publishes records: nothing returns before every in-sync replica acknowledged.

`acks=all` without producer idempotence: aiokafka's idempotent producer can wedge for good after a lost sequence (aiokafka
issues 1017 and 1101), and the inboxes drop the duplicates that it would prevent.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from shared import errors, settings
from shared.kafka import connection
from shared.kafka.lanes import Delivery, Lane
from shared.kafka.metadata_pause import PausingClient
from shared.kafka.record_sizes import bytes_max
from shared.kafka.records import Record
from shared.topics import DEAD_LETTER_BYTES_MAX

# Above the 3 s after which the controller fences a dead in-sync replica: what only waits for that need not be sent again. A
# caller's own deadline ends before it.
REQUEST_TIMEOUT_MS = 10_000
BATCH_BYTES_MAX = 262_144  # with the default of 16 KiB a full buffer blocked senders during an outage
DEADLINE_SECONDS = 5.0
EMPTY_SECONDS = 2.0  # for records under way at the end; closing the connection may take as long again
STOP_SECONDS = 2.0

PARTITIONER = DefaultPartitioner()


class Producer:
    """A started connection for publishing; make one with `opened`."""

    def __init__(self, client: AIOKafkaProducer, *, unordered: Collection[str] = ()) -> None:
        self._client = client
        self._unordered = unordered
        self._lanes: dict[tuple[str, range], Lane] = {}
        self._loop = asyncio.get_running_loop()

    async def publish(self, records: Sequence[Record], *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Publish all records and return once each is acknowledged; those of one key go to one partition, in order.

        Raises errors.KafkaAway when one is not acknowledged within the deadline (it may be in the log all the same), and
        errors.Permanent when one is larger than a topic takes.
        """
        if not records:
            return
        if any(bytes_max(record) > DEAD_LETTER_BYTES_MAX for record in records):
            raise _too_large(records)
        delivery = Delivery(len(records), self._loop)
        expiry = self._loop.call_later(deadline_seconds, delivery.fail, TimeoutError())
        try:
            counts = {topic: await self._partitions(topic, expiry.when()) for topic in {record.topic for record in records}}
            for record in records:
                self._lane(record, counts[record.topic]).put(record, delivery)
            met = await delivery.done
        except (TimeoutError, KafkaError) as error:
            met = error
        finally:
            expiry.cancel()
        match met:
            case None:
                return
            case MessageSizeTooLargeError():
                raise _too_large(records) from met
            case _:
                raise errors.KafkaAway(f"{type(met).__name__} while publishing to {records[0].topic}") from met

    async def emptied(self) -> None:
        """Return when nothing is under way."""
        for lane in self._lanes.values():
            await lane.emptied()

    @property
    def is_dead(self) -> bool:
        """Whether the task that sends has ended: no later record would be sent, and only a restart helps."""
        task = self._client._sender.sender_task  # noqa: SLF001 - aiokafka shows its tasks nowhere else
        return task is not None and bool(task.done())

    async def answers(self, *topics: str, deadline_seconds: float = 2.0) -> bool:
        """Return whether the cluster knows the partitions of all these topics and answers now, for readiness."""
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                # Not from the client's cache, which keeps a topic that is gone for minutes.
                known = await self._client.client.fetch_all_metadata()
                return all(known.partitions_for_topic(topic) for topic in topics)
        return False

    async def _partitions(self, topic: str, deadline: float) -> int:
        known = self._client.client.cluster.partitions_for_topic(topic)
        if not known:
            async with asyncio.timeout_at(deadline):
                known = await self._client.partitions_for(topic)
        return len(known)

    def _lane(self, record: Record, count: int) -> Lane:
        if record.topic in self._unordered:
            partitions = range(count)
        else:
            # The default choice of every Kafka client, so that other producers of our topics choose the same partition.
            chosen = PARTITIONER(record.key, range(count), ())
            partitions = range(chosen, chosen + 1)
        lane = self._lanes.get((record.topic, partitions))
        if lane is None:
            lane = self._lanes[record.topic, partitions] = Lane(self._client, record.topic, partitions)
        return lane


def _too_large(records: Sequence[Record]) -> errors.Permanent:
    return errors.Permanent(f"a record for {records[0].topic} is larger than it takes")


@asynccontextmanager
async def opened(
    kafka: settings.Kafka,
    *,
    client_id: str,
    warm: Iterable[str] = (),
    unordered: Collection[str] = (),
    stopping: asyncio.Event | None = None,
) -> AsyncIterator[Producer]:
    """Yield a started producer; while Kafka is away, wait, and log that once; `warm` are topics to look up.

    The records of the topics `unordered` go to any partition that is free, whatever their key: their readers need no order, and
    the partitions of a dead leader then delay no publisher for long. Raises errors.Stopping when `stopping` is set before Kafka
    answered.
    """
    client = AIOKafkaProducer(
        **connection.for_aiokafka(kafka),
        client_id=client_id,
        acks="all",
        enable_idempotence=False,
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=DEAD_LETTER_BYTES_MAX,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        # 1 µs a webhook; aiokafka's lz4 always has the highest level and takes 11 µs. docs/topics says so to other readers.
        compression_type="snappy",
    )
    client._sender.client = PausingClient(client.client, client._message_accumulator.waiter)  # noqa: SLF001 - there is no setting
    try:
        await connection.until_answers(kafka, client.start, stopping=stopping)
        for topic in warm:
            # An unknown topic would otherwise block the first send for the whole request timeout.
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(client.partitions_for(topic), DEADLINE_SECONDS)
        producer = Producer(client, unordered=unordered)
        yield producer
        with suppress(TimeoutError):
            await asyncio.wait_for(producer.emptied(), EMPTY_SECONDS)
    finally:
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(client.stop(), STOP_SECONDS)
