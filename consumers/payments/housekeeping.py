"""What no event asks for, at the start and every hour: what has waited too long is told, what waited far too long dropped.

Several processes may look at once: what one does, the others find done. Also tells when `cb-ops inbox prune` was forgotten or
`cb-ops stripe reconcile` stopped; dropping partitions itself is left to the database's owner. Enters: the engine. Leaves: rows,
matters for a person, gauges.
"""

import asyncio
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from shared import clock, logs, metrics
from shared.db import attention, inbox, reconciled, waiting
from shared.db.engine import TROUBLE, sqlstate

log = logs.get(__name__)

EVERY_SECONDS = 3600.0
AGAIN_SECONDS = 60.0  # after a look that failed: the database may be back


async def keep_house(engine: AsyncEngine) -> None:
    """Look, wait, and look again, for ever; a look that fails is logged and tried again a minute later."""
    while True:
        try:
            await look(engine, now=clock.now())
        except TROUBLE as error:
            log.warning("housekeeping.failed", error=type(error).__name__, code=sqlstate(error))
            await asyncio.sleep(AGAIN_SECONDS)
        except Exception:
            # Nobody awaits this task: of what broke it nobody would hear before the process stops.
            log.exception("housekeeping.broke")
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await asyncio.sleep(EVERY_SECONDS)


async def look(engine: AsyncEngine, *, now: datetime) -> None:
    """Do all of it once, at `now`. A part that fails keeps no other from its turn; raises what the first of them met."""
    met: list[Exception] = []
    for part in PARTS:
        try:
            await part(engine, now)
        except Exception as error:  # noqa: BLE001 - it is raised below, when the others had their turn
            met.append(error)
    if met:
        raise met[0]
    metrics.housekeeping_success.set(now.timestamp())


async def _tell_unmatched(engine: AsyncEngine, _now: datetime) -> None:
    async with engine.begin() as tx:
        unmatched = await waiting.tell_unmatched(tx)
    metrics.events_unmatched.set(unmatched)


async def _drop_unmatched(engine: AsyncEngine, _now: datetime) -> None:
    dropping = True
    while dropping:
        async with engine.begin() as tx:
            dropping = bool(await waiting.prune(tx))


async def _tell_unpruned(engine: AsyncEngine, now: datetime) -> None:
    async with engine.begin() as tx:
        for partition in await inbox.outdated_partitions(tx, now - inbox.PRUNING_GRACE):
            await attention.open_(tx, reason="inbox_not_pruned", aggregate="inbox", cause=partition)


async def _tell_not_reconciled(engine: AsyncEngine, now: datetime) -> None:
    async with engine.begin() as tx:
        await reconciled.tell_overdue(tx, now=now)


async def _count_matters(engine: AsyncEngine, _now: datetime) -> None:
    """Count those of commands, too, which end before anybody could scrape that they opened one."""
    async with engine.begin() as tx:
        metrics.attention_open.set(await attention.count_open(tx))


PARTS = (_tell_unmatched, _drop_unmatched, _tell_unpruned, _tell_not_reconciled, _count_matters)
