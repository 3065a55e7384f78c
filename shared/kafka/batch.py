"""How every consumer handles a batch: judge, apply in one transaction or several, publish, and only then return.

Enters: a batch of records. Leaves: effects committed with their inbox rows, every event that they caused acknowledged by
Kafka, every refused record acknowledged as a dead letter; then the caller commits offsets. A crash anywhere before that
redelivers, and the inbox makes the repetition publish the same bytes instead of changing anything twice.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared import clock, errors, logs, messages, metrics
from shared.db.data_errors import is_data_error
from shared.db.error_names import error_name
from shared.kafka import dead_letters, parts
from shared.kafka.dead_letters import Refused
from shared.kafka.producer import Producer
from shared.kafka.records import CONTENT_TYPE, Incoming, Record

log = logs.get(__name__)

CULPRITS_PER_MINUTE_MAX = 20  # more than that is no bad event but bad code: stop before it empties the topic
CULPRITS_COUNT_SECONDS = 60
# With one transaction at a time a process waits for PostgreSQL as long as it computes. A backlog is taken in four at once: that
# keeps both busy. They are of a size at which a dozen statements cost little for each item, and locks are held for a moment.
TRANSACTIONS_MAX = 4
TRANSACTION_ITEMS_MAX = 1_000
TRANSACTION_ITEMS_MIN = 500  # a batch of this size is not divided; README says what room its locks need in PostgreSQL


class FromRecord(Protocol):
    """What a consumer makes of a record: it keeps the record that it came from."""

    @property
    def record(self) -> Incoming:
        """That record."""


ItemT = TypeVar("ItemT", bound=FromRecord)


class TooManyCulprits(errors.PipelineError):
    """So many records broke their batch that our code must be at fault; the process ends and makes no more dead letters."""


class Emitted(msgspec.Struct, frozen=True):
    """One domain event to publish, and the record in whose batch it is published (its headers travel on)."""

    event: bytes
    by: Incoming


@dataclass(slots=True)
class Applied:
    """What came of a transaction: events to publish (new and known alike), and records to refuse.

    `after_commit` are calls that may be made only once the transaction stands: metrics, log lines.
    """

    emitted: list[Emitted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)


class Consumer(Protocol[ItemT]):
    """What a consumer does with its records; everything else is the same for all and is done here."""

    def judge(self, record: Incoming) -> ItemT | Refused:
        """Decode one record, or say why it cannot be taken. Pure."""

    def keys(self, item: ItemT) -> Sequence[Hashable]:
        """Return what an item touches: items that share a key are applied in one transaction, in their order."""

    async def items_at_once_max(self, engine: AsyncEngine) -> int:
        """Return for how many items one process may hold locks at a time, TRANSACTION_ITEMS_MIN at least."""

    async def apply(self, tx: AsyncConnection, items: Sequence[ItemT]) -> Applied:
        """Lock, look up, fold and write; no network but the database's."""

    async def record_culprit(self, tx: AsyncConnection, item: ItemT, reason: str) -> None:
        """Record that an item breaks every batch, if there is a place for that; its dead letter says so anyway."""


class Culprits:
    """Counts the records that broke their batch within a minute."""

    def __init__(self) -> None:
        self._seen_at: dict[object, float] = {}

    def add(self, culprit: object, error: Exception) -> None:
        """Count one; raises TooManyCulprits when more than the maximum came within a minute.

        `culprit` says which: while Kafka is away a batch is run again and again, and meets the same ones.
        """
        now = clock.monotonic()
        self._seen_at = {one: at for one, at in self._seen_at.items() if now - at < CULPRITS_COUNT_SECONDS}
        self._seen_at[culprit] = now
        if len(self._seen_at) > CULPRITS_PER_MINUTE_MAX:
            raise TooManyCulprits(f"more than {CULPRITS_PER_MINUTE_MAX} culprits within a minute") from error


@dataclass(slots=True)
class _Attempt(Generic[ItemT]):
    """A batch under way: what is to be refused when all its parts are done, and whether one failed, so that no more begin.

    What others have committed by then is recognised when the batch comes again.
    """

    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    refused: list[Refused] = field(default_factory=list)
    culprits: list[tuple[ItemT, Refused]] = field(default_factory=list)
    has_failed: bool = False


class Batches(Generic[ItemT]):
    """Handles batches for one consumer: `target` takes what it emits, `refusals` what it refuses (full topic names).

    `target` is None for a consumer that emits nothing.
    """

    def __init__(
        self,
        consumer: Consumer[ItemT],
        *,
        engine: AsyncEngine,
        producer: Producer,
        group: str,
        target: str | None,
        refusals: str,
    ) -> None:
        self._consumer = consumer
        self._engine = engine
        self._producer = producer
        self._group = group
        self._target = target
        self._refusals = refusals
        self._culprits = Culprits()

    async def handle(self, records: Sequence[Incoming]) -> None:
        """Take one batch to the point where its offsets may be committed.

        Raises the errors of PostgreSQL and Kafka (connection, deadlock, Kafka away): the caller rewinds. Raises TooManyCulprits
        when the process must end.
        """
        attempt: _Attempt[ItemT] = _Attempt()
        items: list[ItemT] = []
        for record in records:
            judged = self._consumer.judge(record)
            if isinstance(judged, Refused):
                attempt.refused.append(judged)
            else:
                items.append(judged)
        divided = await self._divide(items, attempt)
        for error in await asyncio.gather(*(self._take(part, attempt) for part in divided), return_exceptions=True):
            if error is not None:
                raise error
        # Only now: a process that ends because of too many culprits refuses none of them, and its successor may take them all.
        for item, culprit in attempt.culprits:
            await self._record_culprit(item, culprit)
        await self._refuse([*attempt.refused, *(culprit for _, culprit in attempt.culprits)])

    async def _divide(self, items: Sequence[ItemT], attempt: "_Attempt[ItemT]") -> Sequence[Sequence[ItemT]]:
        """Return what is to be applied in a transaction of its own, and make room for as many of them at once as may be."""
        if len(items) <= TRANSACTION_ITEMS_MIN:
            return [items]
        at_once = await self._consumer.items_at_once_max(self._engine)
        part = min(at_once, TRANSACTION_ITEMS_MAX)
        attempt.room = asyncio.Semaphore(min(at_once // part, TRANSACTIONS_MAX))
        return parts.divide(items, self._consumer.keys, count=-(-len(items) // part))

    async def _take(self, items: Sequence[ItemT], attempt: "_Attempt[ItemT]") -> None:
        """Apply one part when there is room for its transaction, and publish what it emits."""
        try:
            async with attempt.room:
                if attempt.has_failed:
                    return
                applied = await self._apply(items, attempt.culprits)
            attempt.refused += applied.refused
            await self._emit(applied.emitted)
        except BaseException:
            attempt.has_failed = True
            raise

    async def _apply(self, items: Sequence[ItemT], culprits: list[tuple[ItemT, Refused]]) -> Applied:
        """Apply in one transaction; on an error of data halve, down to the one culprit, which is added to `culprits`."""
        if not items:
            return Applied()
        begun = False
        try:
            async with self._engine.begin() as tx:
                begun = True
                applied = await self._consumer.apply(tx, items)
        except Exception as error:
            # Before the transaction began no record can be at fault, even if the error is one of data: PostgreSQL refuses a
            # connection with 22023 for a value that a setting cannot have.
            if not begun or not is_data_error(error):
                raise
            if len(items) == 1:
                culprits.append((items[0], self._culprit(items[0], error)))
                return Applied()
            middle = len(items) // 2
            first, second = await self._apply(items[:middle], culprits), await self._apply(items[middle:], culprits)
            return Applied(first.emitted + second.emitted, first.refused + second.refused)
        for report in applied.after_commit:
            report()
        return applied

    def _culprit(self, item: ItemT, error: Exception) -> Refused:
        self._culprits.add(item.record.place, error)
        return Refused(item.record, f"broke_its_batch:{error_name(error)}")

    async def _record_culprit(self, item: ItemT, culprit: Refused) -> None:
        async with self._engine.begin() as tx:
            try:
                await self._consumer.record_culprit(tx, item, culprit.reason)
            except Exception as unwritable:
                if not is_data_error(unwritable):
                    raise
                # Its dead letter shows it all the same.
                await tx.rollback()
                log.warning("culprit.not_recorded", reason=culprit.reason, error=error_name(unwritable))

    async def _emit(self, emitted: Sequence[Emitted]) -> None:
        if not emitted:
            return
        content_type = ((CONTENT_TYPE, messages.CONTENT_TYPE),)
        records: list[Record] = []
        for e in emitted:
            assert self._target is not None, "this consumer was to emit nothing"
            records.append(
                Record(self._target, messages.subject_of(e.event).encode(), e.event, e.by.travelling() + content_type)
            )
        await self._producer.publish(records)

    async def _refuse(self, refused: Sequence[Refused]) -> None:
        if not refused:
            return
        await self._producer.publish([dead_letters.letter(r, topic=self._refusals, group=self._group) for r in refused])
        for r in refused:
            metrics.dead_letters.labels(self._refusals, r.code).inc()
            log.error(
                "record.refused", topic=r.record.topic, partition=r.record.partition, offset=r.record.offset, reason=r.reason
            )
