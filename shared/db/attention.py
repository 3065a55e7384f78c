"""Matters for a person: one row each, opened where it is noticed, resolved by `cb-ops attention resolve` or by a later event.

The id follows from reason, aggregate and cause, so that a repeated event opens nothing a second time. When the same happens
again after a person resolved it, that is the next matter, with an id that follows from the last one's: who did what stays on
record.
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
RESOLVED = "select resolved_at is not null from attention where id = $1"
SETTLE = """
update attention set resolved_at = now(), resolved_by = $3
where reason = $1 and aggregate = any($2::text[]) and resolved_at is null returning id, aggregate
"""


async def open_(tx: AsyncConnection, *, reason: str, aggregate: str, cause: str) -> None:
    """Open a matter, once: `aggregate` is its subject (`payment:…`), `cause` the event or letter behind it.

    When a person has resolved it, and it is of a kind that can happen again, a new one is opened. The metric and the log line
    come before the commit: a transaction that is repeated reports twice, but no matter stays unreported.
    """
    matter = uuid.uuid5(messages.NAMESPACE, f"attention/{reason}/{aggregate}/{cause}")
    while not await rows(tx, OPEN, matter, reason, aggregate, cause):
        if not (_happens_again(reason) and (await rows(tx, RESOLVED, matter))[0][0]):
            return
        matter = uuid.uuid5(messages.NAMESPACE, f"attention/{matter}")
    metrics.operator_attention.labels(reason.partition(":")[0]).inc()
    log.error("attention.opened", reason=reason, aggregate=aggregate, attention_id=str(matter))


async def settle(tx: AsyncConnection, *, reason: str, aggregates: Sequence[str], by: str) -> None:
    """Resolve the open matters of these aggregates for this reason; `by` is recorded as the one who resolved them."""
    for matter, aggregate in await rows(tx, SETTLE, reason, aggregates, by):
        log.info("attention.settled", reason=reason, aggregate=aggregate, attention_id=str(matter))


async def count_open(tx: AsyncConnection) -> int:
    """Return how many matters nobody has resolved."""
    return int((await rows(tx, COUNT_OPEN))[0][0])


def _happens_again(reason: str) -> bool:
    """Return whether the same cause is a new matter when it comes again: a dead letter that was replayed and refused again.

    A letter is given up again only after a replay. An event that contradicts our row, breaks its batch, or has no booking that
    could follow it, is not in the inbox; when it comes again, it becomes a dead letter again, too. All else would only be seen
    again: the hourly check finds what it found before, and what was joined to a payment or a booking happened for good.
    """
    return reason.startswith(("letter_", "broke_its_batch:", "booking_not_followed:")) or reason.endswith("_mismatch")
