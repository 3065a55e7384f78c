"""The inbox: which events a consumer has taken for good, each with the exact bytes of what it caused.

A row is written in the transaction of its effects, so that an event is either applied and known, or neither. A known event
changes nothing, but what it caused is published again: the process that wrote it may have died before publishing.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import rows, statement

MONTHS_AHEAD = 3
KEEP_DAYS = 45  # Stripe sends again by hand for 30 days, and our topics keep two weeks more
PRUNING_GRACE = timedelta(days=7)  # `cb-ops inbox prune` runs daily or weekly: later than this it was forgotten
LOCK_TIMEOUT = "set local lock_timeout = '5s'"  # rather give up and be run again than hold the consumers up
# Making a month's partition reads the DEFAULT partition, and then locks the whole inbox: two processes would wait for each
# other. An advisory lock, since a lock of the table would make the consumers wait longer.
LOCK = "select pg_advisory_xact_lock($1)"
LOCK_KEY = 0x0CB_1B0C
# For each new month PostgreSQL reads the whole DEFAULT partition: a timeout that stops this would end every later attempt, too.
# PostgreSQL has the second one from 17 on.
NO_TIMEOUT = "select set_config(name, '0', true) from pg_settings where name in ('statement_timeout', 'transaction_timeout')"


class Entry(msgspec.Struct, frozen=True):
    """One event taken for good: its own id and time, its place in Kafka, and what it caused."""

    event_id: str
    created: datetime
    topic: str
    partition: int
    offset: int
    emitted: tuple[bytes, ...] = ()


# One look-up per event, each in the one partition that may hold it: for a join over all events, a planner without statistics
# reads the whole inbox.
KNOWN = """
select i.event_id, i.created, i.topic, i."partition", i."offset", i.emitted
from unnest($2::timestamptz[], $3::text[]) as asked (created, event_id)
cross join lateral (
    select * from inbox where consumer = $1 and created = asked.created and event_id = asked.event_id limit 1
) as i
"""
INSERT = """
insert into inbox (consumer, created, event_id, emitted, topic, "partition", "offset")
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
"""
# The inbox's key begins with the consumer: step from one to the next instead of reading everything.
CONSUMERS_IN_DEFAULT = """
with recursive found as (
    (select consumer from inbox_default order by consumer limit 1)
    union all
    select (select d.consumer from inbox_default d where d.consumer > found.consumer order by d.consumer limit 1)
    from found where found.consumer is not null
)
select consumer from found where consumer is not null
"""
SERVED_BY_DEFAULT = """
select 1 from inbox_default where consumer = any($1::text[]) and created >= $2 and created < $3 limit 1
"""
DELETE_OUTDATED = """
with gone as (
    delete from inbox_default where ctid = any(array(
        select ctid from inbox_default where consumer = $1 and created < $2 order by created limit $3
    )) returning 1
)
select count(*) from gone
"""
SCHEMA = "select relnamespace::regnamespace::text from pg_class where oid = 'inbox'::regclass"
TABLE_OF = "select to_regclass($1)::text"
PARTITIONS = """
select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'inbox'::regclass and c.relname ~ '^inbox_[0-9]{4}_[0-9]{2}$' order by 1
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
        async with statement(tx) as raw:
            await raw.copy_records_to_table("inbox", records=[_row(consumer, e) for e in entries], columns=COLUMNS)


async def write_unlocked(tx: AsyncConnection, consumer: str, entries: Sequence[Entry]) -> None:
    """Add entries of events that touch no locked row, so that another process may be adding them too."""
    if entries:
        async with statement(tx) as raw:
            await raw.executemany(INSERT, [_row(consumer, entry) for entry in entries])


async def make_partitions(tx: AsyncConnection, now: datetime) -> list[str]:
    """Make the partitions of this month and the coming three, and return those that were missing.

    A month that has rows in the DEFAULT partition stays there. While a partition is made nobody reads or writes the inbox, for
    as long as it takes to read the DEFAULT one, which is empty unless nobody pruned for months.
    """
    made = []
    await _begin_alone(tx)
    await tx.exec_driver_sql(NO_TIMEOUT)
    [(schema,)] = await rows(tx, SCHEMA)
    consumers = [row[0] for row in await rows(tx, CONSUMERS_IN_DEFAULT)]
    for ahead in range(MONTHS_AHEAD + 1):
        first, end = _month(now, ahead), _month(now, ahead + 1)
        name = f"inbox_{first:%Y_%m}"
        place = f"{schema}.{name}"
        exists = await rows(tx, TABLE_OF, place)
        served = await rows(tx, SERVED_BY_DEFAULT, consumers, first, end)
        if exists[0][0] is None and not served:
            await tx.exec_driver_sql(
                f"create table {place} partition of inbox for values from ('{first.isoformat()}') to ('{end.isoformat()}')"
            )
            made.append(name)
    return made


def kept_since(now: datetime) -> datetime:
    """Return from when on entries are kept: the whole month in which the day 45 days ago lies, and everything after."""
    return _month(now - timedelta(days=KEEP_DAYS), 0)


async def outdated_partitions(tx: AsyncConnection, now: datetime) -> list[str]:
    """Return the months' partitions that hold nothing but entries older than 45 days, oldest first."""
    oldest_kept = f"inbox_{kept_since(now):%Y_%m}"
    return [row[0] for row in await rows(tx, PARTITIONS) if row[0] < oldest_kept]


async def drop_partition(tx: AsyncConnection, name: str) -> None:
    """Drop one of `outdated_partitions`; for a moment nobody reads or writes the inbox."""
    await _begin_alone(tx)
    await tx.exec_driver_sql(f"drop table if exists {name}")


async def delete_outdated(tx: AsyncConnection, now: datetime, *, at_once_max: int) -> int:
    """Delete entries older than what is kept from the DEFAULT partition; return how many, 0 when none is left."""
    deleted = 0
    for (consumer,) in await rows(tx, CONSUMERS_IN_DEFAULT):
        gone = await rows(tx, DELETE_OUTDATED, consumer, kept_since(now), at_once_max - deleted)
        deleted += gone[0][0]
    return deleted


async def _begin_alone(tx: AsyncConnection) -> None:
    """Let only this transaction change the partitions until its commit; another fails after waiting for LOCK_TIMEOUT."""
    await tx.exec_driver_sql(LOCK_TIMEOUT)
    await rows(tx, LOCK, LOCK_KEY)


def _month(now: datetime, ahead: int) -> datetime:
    years, month = divmod(now.month - 1 + ahead, 12)
    return now.replace(year=now.year + years, month=month + 1, day=1, hour=0, minute=0, second=0, microsecond=0)


def _row(consumer: str, entry: Entry) -> tuple[object, ...]:
    return (consumer, entry.created, entry.event_id, list(entry.emitted), entry.topic, entry.partition, entry.offset)
