"""A consumer that restores its positions after a failed poll, and waits for records within its polls instead of between them.

aiokafka's `getmany` moves the position of partition A before it unpacks partition B; when B raises (a bad checksum, a
missing codec), A's records are gone from the buffer and the next commit would pass them over. FastStream uses one number for
two things: how long a poll waits for records, and how long it sleeps after a poll without any, in which it notices nothing. We
set that number to a millisecond, so that new records are noticed at once, and wait within the poll, so that it does not ask a
thousand times a second.

All private parts of aiokafka's consumer that we use are used here, so that an upgrade has one file to look at.
Next: liveness.py asks it whether it lives.
"""

from collections.abc import Container
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import ConsumerStoppedError, KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from shared.kafka.metadata_pause import PausingClient

POLL_WAIT_MS = 1_000
JOINING_MS = 5  # as long as a broker that has records takes to answer


class OffsetErrorsClient:
    """aiokafka's client, which raises the error of a coordinator that does not return the committed offsets.

    Such an answer has its error code at the top and names no partition, but aiokafka reads only the partitions. It would take a
    coordinator that was just moved, or is still loading, for one without commits, and read the topic from its beginning.
    """

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Send, and return the answer. Raises the KafkaError for which a coordinator returns no committed offsets."""
        answer = await self._client.send(node_id, request, **options)
        if isinstance(request, OffsetFetchRequest) and answer.error_code:
            raise for_code(answer.error_code)
        return answer


class RewindingConsumer(AIOKafkaConsumer):
    """aiokafka's consumer, whose positions move only with records that were handed out.

    `poll_error` names the error of the last poll, None when it went well.
    """

    poll_error: str | None = None
    _client: Any

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options)
        self._client = OffsetErrorsClient(self._client)

    @property
    def has_joined(self) -> bool:
        """Whether the group has assigned its partitions, even if none: `assignment()` is empty before that, too."""
        return self._assignment() is not None

    @property
    def waiting(self) -> Container[TopicPartition]:
        """The partitions of which records were fetched and not handed out yet: these are not fetched meanwhile."""
        fetched: Container[TopicPartition] = self._fetcher._records  # noqa: SLF001 - aiokafka shows its buffer nowhere else
        return fetched

    def holds_more(self, partition: TopicPartition) -> bool:
        """Return whether Kafka, by its last answer, has records of a partition behind the last one that was handed out.

        Not while it is paused: what is there is not due. Not when another member has it.
        """
        assignment = self._assignment()
        if assignment is None or partition not in assignment.tps:
            return False
        state = assignment.state_value(partition)
        if state.paused:
            return False
        return not state.has_valid_position or state.position < (state.highwater or 0)

    @property
    def ended_task(self) -> str | None:
        """Which of the tasks that it needs has ended, in words; None while all of them run."""
        tasks = {
            "the coordination task ended": getattr(self._coordinator, "_coordination_task", None),
            "the fetch task ended": getattr(self._fetcher, "_fetch_task", None),
        }
        return next((name for name, task in tasks.items() if task is not None and task.done()), None)

    async def start(self) -> None:
        """Connect and join; requests for metadata pause while a partition has no leader."""
        await super().start()
        self._fetcher._client = PausingClient(self._client)  # noqa: SLF001 - there is no setting
        self._join_as_who_it_is()

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """Return records by partition, after a second at most; on any exception restore every position first.

        Records that are there at once came while the last batch was handled. aiokafka fetches nothing more from a broker while
        records of it are not taken, so whatever else came meanwhile is fetched now and joins them.

        Raises KafkaError for every fault: after any other exception FastStream's loop would poll again at once, for ever.
        """
        assignment, before = self._assignment(), self._positions()
        try:
            records: dict[TopicPartition, list[Any]] = await super().getmany(*partitions, max_records=max_records)
            if not records:
                wait_ms = max(timeout_ms, POLL_WAIT_MS)
                records = await super().getmany(*partitions, timeout_ms=wait_ms, max_records=max_records)
            elif max_records is not None and (room := max_records - sum(map(len, records.values()))):
                handed_out = self._assignment()
                more = await super().getmany(*partitions, timeout_ms=JOINING_MS, max_records=room)
                if self._subscription.reassignment_in_progress:
                    return {}  # no handler has these records yet: drop them, so that the rebalance does not wait for us
                if self._assignment() is not handed_out:
                    records = {}  # their present owner, perhaps this consumer, reads from what is committed
                for partition, later in more.items():
                    records.setdefault(partition, []).extend(later)
        except ConsumerStoppedError:
            raise
        except Exception as error:
            self.poll_error = type(error).__name__
            self._rejoin_without_its_tasks()
            # Positions of an earlier assignment may lie after a batch that failed under it, and that nobody rewound.
            await self._rewind(before if self._assignment() is assignment else {})
            if isinstance(error, KafkaError):
                raise
            raise KafkaError(f"a poll failed: {self.poll_error}") from error
        self.poll_error = None
        return records

    async def _rewind(self, before: dict[TopicPartition, int]) -> None:
        for partition in self.assignment():
            if partition in before:
                self.seek(partition, before[partition])
            elif not (await self.seek_to_committed(partition))[partition]:
                await self.seek_to_beginning(partition)

    def _join_as_who_it_is(self) -> None:
        """Join once more under a static name: only then does the leader's replacement learn that it leads, and assigns all.

        The first join gives such a member its old place, under which nobody leads: partitions that are added would not be
        assigned. A member that is not the leader gets the same answer again, and the others notice nothing.
        """
        if self._group_instance_id is not None and self._coordinator._group_subscription is None:  # noqa: SLF001 - as above
            self._coordinator.request_rejoin()

    def _rejoin_without_its_tasks(self) -> None:
        """Rejoin when a task of the membership has failed: only a join starts it again, and until then no poll succeeds."""
        tasks = [getattr(self._coordinator, name, None) for name in ("_heartbeat_task", "_commit_refresh_task")]
        if any(task is not None and task.done() and not task.cancelled() and task.exception() for task in tasks):
            self._coordinator.request_rejoin()

    def _assignment(self) -> Any:
        subscription = self._subscription.subscription
        return subscription.assignment if subscription else None

    def _positions(self) -> dict[TopicPartition, int]:
        assignment = self._assignment()
        if assignment is None:
            return {}
        states = ((partition, assignment.state_value(partition)) for partition in assignment.tps)
        return {partition: state.position for partition, state in states if state.has_valid_position}
