"""The table `attention`: matters for a person, listed and resolved.

Enters: a connection. Leaves: plain values; resolving twice keeps who did it first.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops.errors import NotFound
from shared import logs
from shared.db.engine import rows

log = logs.get(__name__)

COLUMNS = " id, reason, aggregate, cause, opened_at, resolved_at, resolved_by "
ONE = "select" + COLUMNS + "from attention where id = $1"
OPEN = "select" + COLUMNS + "from attention where resolved_at is null order by opened_at, id"
ALL = "select" + COLUMNS + "from attention order by opened_at, id"
ABOUT = "select" + COLUMNS + "from attention where aggregate = any($1::text[]) order by opened_at, id"
RESOLVE = """
update attention set resolved_at = now(), resolved_by = $2 where id = $1 and resolved_at is null
returning id
"""


@dataclass(frozen=True, slots=True)
class Matter:
    """Something that was put before an operator; `aggregate` is what it is about, `cause` the event or letter behind it."""

    id: uuid.UUID
    reason: str
    aggregate: str
    cause: str
    opened_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None


async def listed(tx: AsyncConnection, *, resolved_too: bool) -> list[Matter]:
    """Return open matters, oldest first; `resolved_too` adds resolved ones."""
    return [Matter(*row) for row in await rows(tx, ALL if resolved_too else OPEN)]


async def about(tx: AsyncConnection, aggregates: Sequence[str]) -> list[Matter]:
    """Return every matter about these, open or resolved, oldest first."""
    return [Matter(*row) for row in await rows(tx, ABOUT, list(aggregates))]


async def resolve(tx: AsyncConnection, matter_id: uuid.UUID, *, by: str) -> tuple[Matter, bool]:
    """Resolve a matter; return it, and whether it was open until now (the first resolver stays). Raises NotFound."""
    was_open = bool(await rows(tx, RESOLVE, matter_id, by))
    found = await rows(tx, ONE, matter_id)
    if not found:
        raise NotFound(f"no matter has the id {matter_id}")
    matter = Matter(*found[0])
    if was_open:
        log.info("attention.resolved", attention_id=str(matter.id), reason=matter.reason, aggregate=matter.aggregate)
    return matter, was_open
