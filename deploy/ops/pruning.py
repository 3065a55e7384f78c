"""Prune the inbox: whole months at once, each step a transaction of its own, so that a stopped run is simply run again.

Enters: an engine of the database's owner, and this moment. Leaves: what was made, dropped and deleted. An event that is
redelivered after its entry is gone changes nothing: the fold joins facts that it knows already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from shared import logs
from shared.db import inbox

log = logs.get(__name__)

DELETED_AT_ONCE_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one run did; `deleted` counts entries of the DEFAULT partition, which no month's partition held."""

    kept_since: datetime
    made: tuple[str, ...]
    dropped: tuple[str, ...]
    deleted: int


async def prune(engine: AsyncEngine, now: datetime, *, progress: Callable[[int, int], None]) -> Pruned:
    """Make the coming months, drop the outdated ones, empty the DEFAULT partition of what is outdated.

    Raises one of engine.TROUBLE, also when a lock could not be had in 5 s; `progress` is told of entries deleted so far.
    """
    async with engine.begin() as tx:
        made = await inbox.make_partitions(tx, now)
        outdated = await inbox.outdated_partitions(tx, now)
    for name in outdated:
        async with engine.begin() as tx:
            await inbox.drop_partition(tx, name)
        log.info("inbox.partition_dropped", step=name)
    deleted, more = 0, True
    while more:
        async with engine.begin() as tx:
            gone = await inbox.delete_outdated(tx, now, at_once_max=DELETED_AT_ONCE_MAX)
        deleted, more = deleted + gone, gone == DELETED_AT_ONCE_MAX
        progress(deleted, deleted + gone)
    return Pruned(inbox.kept_since(now), tuple(made), tuple(outdated), deleted)
