"""What no event asks for, at the start and every hour: what has waited too long is told, what waited far too long dropped.

Several processes may look at once: what one does, the others find done. Also tells when `cb-ops inbox prune` was forgotten;
dropping partitions itself is left to the database's owner. Enters: the engine. Leaves: rows, matters for a person, gauges.
"""

import asyncio
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from shared import clock, logs, metrics
from shared.db import attention, inbox, waiting
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
    """Do all of it once, at `now`. Raises whatever PostgreSQL does; each part stands by itself."""
    async with engine.begin() as tx:
        unmatched = await waiting.tell_unmatched(tx)
    metrics.events_unmatched.set(unmatched)
    dropping = True
    while dropping:
        async with engine.begin() as tx:
            dropping = bool(await waiting.prune(tx))
    async with engine.begin() as tx:
        for partition in await inbox.outdated_partitions(tx, now - inbox.PRUNING_GRACE):
            await attention.open_(tx, reason="inbox_not_pruned", aggregate="inbox", cause=partition)
    # Those of commands, too, which end before anybody could scrape that they opened one.
    async with engine.begin() as tx:
        metrics.attention_open.set(await attention.count_open(tx))
