"""Matters for a person: one row each, opened by whoever noticed, resolved by `cb-ops attention resolve`, or by what came later.

The id follows from reason, aggregate and cause, so that a repeated event opens nothing a second time.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from shared import logs, messages, metrics
from shared.db.engine import rows

log = logs.get(__name__)

OPEN = """
insert into attention (id, reason, aggregate, cause) values ($1, $2, $3, $4) on conflict do nothing returning id
"""
COUNT_OPEN = "select count(*) from attention where resolved_at is null"
SETTLE = """
update attention set resolved_at = now(), resolved_by = $3
where reason = $1 and aggregate = any($2::text[]) and resolved_at is null returning id, aggregate
"""


async def open_(tx: AsyncConnection, *, reason: str, aggregate: str, cause: str) -> None:
    """Tell an operator, once: `aggregate` is what it is about (`payment:…`), `cause` the event or letter behind it.

    The metric and the log tell before the commit: a transaction that is run again tells twice, but none stands untold.
    """
    matter = uuid.uuid5(messages.NAMESPACE, f"attention/{reason}/{aggregate}/{cause}")
    if await rows(tx, OPEN, matter, reason, aggregate, cause):
        metrics.operator_attention.labels(reason.partition(":")[0]).inc()
        log.error("attention.opened", reason=reason, aggregate=aggregate, attention_id=str(matter))


async def settle(tx: AsyncConnection, *, reason: str, aggregates: Sequence[str], by: str) -> None:
    """Resolve what is open about these for this reason: nobody has to look any more. `by` says who found so."""
    for matter, aggregate in await rows(tx, SETTLE, reason, aggregates, by):
        log.info("attention.settled", reason=reason, aggregate=aggregate, attention_id=str(matter))


async def count_open(tx: AsyncConnection) -> int:
    """Return how many matters nobody has resolved."""
    return int((await rows(tx, COUNT_OPEN))[0][0])
