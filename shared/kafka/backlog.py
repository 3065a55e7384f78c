"""Since when the oldest record of a subscription that is not handled has waited, partition by partition.

Enters: each batch when it is taken and when it is handled, and which partitions hold more. Leaves: a record's timestamp, also
between two batches: there it is that of the last record that was handled in a partition that holds more, which those behind it
followed. Next: liveness.py measures the age.
"""

from collections.abc import Callable, Iterable

from aiokafka import TopicPartition

from shared.kafka.records import Incoming


class Backlog:
    """The oldest record of each partition that has a batch at hand, and the last one handled of each that holds more.

    `holds_more` returns whether a partition holds records behind the last one that was polled. Where it does not, what was
    handled there is forgotten: the next record may come much later.
    """

    def __init__(self, holds_more: Callable[[TopicPartition], bool]) -> None:
        self._holds_more = holds_more
        self._at_hand_ms: dict[TopicPartition, int] = {}
        self._handled_ms: dict[TopicPartition, int] = {}

    def take(self, records: Iterable[Incoming]) -> None:
        """Count the records of a batch as waiting until they are handled, however often it is put back."""
        for place, timestamps_ms in _by_partition(records).items():
            self._at_hand_ms[place] = min(timestamps_ms)
            self._handled_ms.pop(place, None)

    def finish(self, records: Iterable[Incoming]) -> None:
        """Count the records of a batch as handled."""
        for place, timestamps_ms in _by_partition(records).items():
            self._at_hand_ms.pop(place, None)
            self._handled_ms[place] = timestamps_ms[-1]
        self._forget_what_is_handled_to_the_end()

    def clear(self) -> None:
        """Forget all: the partitions may be another member's now, and if they are not, their records come again."""
        self._at_hand_ms.clear()
        self._handled_ms.clear()

    def oldest_timestamp_ms(self) -> int | None:
        """Return the timestamp of the oldest record that waits; None when none does."""
        self._forget_what_is_handled_to_the_end()
        return min((*self._at_hand_ms.values(), *self._handled_ms.values()), default=None)

    def _forget_what_is_handled_to_the_end(self) -> None:
        self._handled_ms = {place: ms for place, ms in self._handled_ms.items() if self._holds_more(place)}


def _by_partition(records: Iterable[Incoming]) -> dict[TopicPartition, list[int]]:
    """Return the timestamps of records in milliseconds, in their order, by partition."""
    found: dict[tuple[str, int], list[int]] = {}
    for record in records:
        found.setdefault((record.topic, record.partition), []).append(record.timestamp_ms)
    return {TopicPartition(*place): timestamps_ms for place, timestamps_ms in found.items()}
