"""Matters for a person: one row each, opened by whoever noticed, resolved by `cb-ops attention resolve`.

The id follows from reason, aggregate and cause, so that a repeated event opens nothing a second time.
"""

import uuid

from sqlalchemy.ext.asyncio import AsyncConnection

from shared import logs, messages, metrics
from shared.db.engine import rows

log = logs.get(__name__)

OPEN = """
insert into attention (id, reason, aggregate, cause) values ($1, $2, $3, $4) on conflict do nothing returning id
"""


async def open_(tx: AsyncConnection, *, reason: str, aggregate: str, cause: str) -> None:
    """Tell an operator, once: `aggregate` is what it is about (`payment:…`), `cause` the event or letter behind it."""
    matter = uuid.uuid5(messages.NAMESPACE, f"attention/{reason}/{aggregate}/{cause}")
    if await rows(tx, OPEN, matter, reason, aggregate, cause):
        metrics.operator_attention.labels(reason.partition(":")[0]).inc()
        log.error("attention.opened", reason=reason, aggregate=aggregate, attention_id=str(matter))
