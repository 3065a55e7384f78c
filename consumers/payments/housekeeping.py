"""Tasks that no event triggers, at the start and every hour: report what has waited too long, drop what waited far too long.

Several processes may run them at once: what one has done, the others find done. Also reports that `cb-ops inbox prune` was
forgotten or `cb-ops stripe reconcile` stopped, and letters whose ticket was lost; dropping partitions itself is left to the
database's owner. Enters: the engine. Leaves: rows, matters for a person, gauges.
"""

import asyncio
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from shared import clock, logs, metrics
from shared.db import attention, inbox, lost_tickets, reconciled, waiting
from shared.db.engine import TROUBLE, sqlstate

log = logs.get(__name__)

EVERY_SECONDS = 3600.0
AGAIN_SECONDS = 60.0  # after a run that failed: the database may be back


async def keep_house(engine: AsyncEngine) -> None:
    """Run all tasks every hour, for ever; a run that fails is logged and repeated a minute later."""
    while True:
        try:
            await look(engine, now=clock.now())
        except TROUBLE as error:
            log.warning("housekeeping.failed", error=type(error).__name__, code=sqlstate(error))
            await asyncio.sleep(AGAIN_SECONDS)
        except Exception:
            # Nobody awaits this task: an exception that ended it would stay unseen until the process stops.
            log.exception("housekeeping.broke")
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await asyncio.sleep(EVERY_SECONDS)


async def look(engine: AsyncEngine, *, now: datetime) -> None:
    """Run all tasks once, at `now`. One that fails keeps no other from running; raises the first error."""
    met: list[Exception] = []
    for part in PARTS:
        try:
            await part(engine, now)
        except Exception as error:  # noqa: BLE001 - it is raised below, when the others had their turn
            met.append(error)
    if met:
        raise met[0]
    metrics.housekeeping_success.set(now.timestamp())


async def _report_unmatched(engine: AsyncEngine, _now: datetime) -> None:
    async with engine.begin() as tx:
        unmatched = await waiting.report_unmatched(tx)
    metrics.events_unmatched.set(unmatched)


async def _drop_unmatched(engine: AsyncEngine, _now: datetime) -> None:
    dropping = True
    while dropping:
        async with engine.begin() as tx:
            dropping = bool(await waiting.prune(tx))


async def _report_unpruned(engine: AsyncEngine, now: datetime) -> None:
    async with engine.begin() as tx:
        for partition in await inbox.outdated_partitions(tx, now - inbox.PRUNING_GRACE):
            await attention.open_(tx, reason="inbox_not_pruned", aggregate="inbox", cause=partition)


async def _report_not_reconciled(engine: AsyncEngine, now: datetime) -> None:
    async with engine.begin() as tx:
        await reconciled.report_overdue(tx, now=now)


async def _report_lost_tickets(engine: AsyncEngine, now: datetime) -> None:
    async with engine.begin() as tx:
        await lost_tickets.report(tx, now=now)


async def _count_matters(engine: AsyncEngine, _now: datetime) -> None:
    """Count all open matters, also those of commands, which end before anybody could scrape their metrics."""
    async with engine.begin() as tx:
        metrics.attention_open.set(await attention.count_open(tx))


PARTS = (
    _report_unmatched,
    _drop_unmatched,
    _report_unpruned,
    _report_not_reconciled,
    _report_lost_tickets,
    _count_matters,
)
