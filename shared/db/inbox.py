"""The inbox: which events a consumer has taken for good, each with the exact bytes of what it caused.

A row is written in the transaction of its effects, so that an event is either applied and known, or neither. A known event
changes nothing, but what it caused is published again: the process that wrote it may have died before it could.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import driver, rows

MONTHS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One event taken for good: its own id and time, where it lay in Kafka, and what it caused."""

    event_id: str
    created: datetime
    topic: str
    partition: int
    offset: int
    emitted: tuple[bytes, ...] = ()


KNOWN = """
select i.event_id, i.created, i.topic, i."partition", i."offset", i.emitted
from unnest($2::timestamptz[], $3::text[]) as asked (created, event_id)
join inbox i on i.consumer = $1 and i.created = asked.created and i.event_id = asked.event_id
"""
INSERT = """
insert into inbox (consumer, created, event_id, emitted, topic, "partition", "offset")
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
"""
COLUMNS = ("consumer", "created", "event_id", "emitted", "topic", "partition", "offset")


async def known(tx: AsyncConnection, consumer: str, events: Iterable[tuple[datetime, str]]) -> dict[str, Entry]:
    """Return the entries of those (created, id) that this consumer has taken, by id.

    Ask in a statement of its own *after* the rows are locked: READ COMMITTED then sees what the lock's last holder wrote.
    """
    asked = list(events)
    found = await rows(tx, KNOWN, consumer, [created for created, _ in asked], [event_id for _, event_id in asked])
    return {row[0]: Entry(row[0], row[1], row[2], row[3], row[4], tuple(row[5])) for row in found}


async def write(tx: AsyncConnection, consumer: str, entries: Sequence[Entry]) -> None:
    """Add entries of events whose rows are locked in this transaction, by COPY (which knows no conflict)."""
    if entries:
        connection = await driver(tx)
        await connection.copy_records_to_table("inbox", records=[_row(consumer, e) for e in entries], columns=COLUMNS)


async def write_unlocked(tx: AsyncConnection, consumer: str, entries: Sequence[Entry]) -> None:
    """Add entries of events that touch no locked row, so that another process may be adding them too."""
    if entries:
        connection = await driver(tx)
        await connection.executemany(INSERT, [_row(consumer, entry) for entry in entries])


async def make_partitions(tx: AsyncConnection, now: datetime) -> None:
    """Make the partitions of this month and the coming ones; a month that the DEFAULT partition already serves stays there."""
    for ahead in range(MONTHS_AHEAD + 1):
        first, end = _month(now, ahead), _month(now, ahead + 1)
        name = f"inbox_{first:%Y_%m}"
        exists = await rows(tx, "select to_regclass($1)::text", name)
        served = await rows(tx, "select 1 from inbox_default where created >= $1 and created < $2 limit 1", first, end)
        if exists[0][0] is None and not served:
            await tx.exec_driver_sql(
                f"create table {name} partition of inbox for values from ('{first.isoformat()}') to ('{end.isoformat()}')"
            )


def _month(now: datetime, ahead: int) -> datetime:
    years, month = divmod(now.month - 1 + ahead, 12)
    return now.replace(year=now.year + years, month=month + 1, day=1, hour=0, minute=0, second=0, microsecond=0)


def _row(consumer: str, entry: Entry) -> tuple[object, ...]:
    return (consumer, entry.created, entry.event_id, list(entry.emitted), entry.topic, entry.partition, entry.offset)
