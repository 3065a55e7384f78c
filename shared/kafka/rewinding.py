"""A consumer that puts back what a failed poll had already taken, and waits where it hears what comes.

aiokafka's `getmany` moves the position of partition A before it unpacks partition B; when B raises (a bad checksum, a
missing codec), A's records are gone from the buffer and the next commit would pass them. FastStream gives it as long to wait as
it sleeps after it has waited in vain; so whoever asks for little sleep would ask all day long.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

POLL_WAIT_MS = 1_000


class RewindingConsumer(AIOKafkaConsumer):
    """aiokafka's consumer, whose positions move only with records that were handed out.

    `poll_error` names what the last poll died of, None when it went well.
    """

    poll_error: str | None = None

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """Return records by partition, after a second at most; on any exception restore every position first.

        Raises KafkaError whatever went wrong: on anything else FastStream's loop would poll again at once, for ever.
        """
        before = self._positions()
        try:
            records: dict[TopicPartition, list[Any]] = await super().getmany(
                *partitions, timeout_ms=max(timeout_ms, POLL_WAIT_MS), max_records=max_records
            )
        except ConsumerStoppedError:
            raise
        except Exception as error:
            self.poll_error = type(error).__name__
            await self._rewind(before)
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

    def _positions(self) -> dict[TopicPartition, int]:
        subscription = self._subscription.subscription
        assignment = subscription.assignment if subscription else None
        if assignment is None:
            return {}
        states = ((partition, assignment.state_value(partition)) for partition in assignment.tps)
        return {partition: state.position for partition, state in states if state.has_valid_position}
