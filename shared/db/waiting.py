"""Events that came before their payment was known: how long they wait, when they are reported, and when they are dropped.

An event joins its payment in the transaction that links the two (consumers/payments). An event that is still here after three
days counts as unmatched, and opens a matter for an operator, once for each id under which some wait. After 45 days it is
dropped: its bytes are deleted, the ledger keeps that it was here, and another matter is opened. Ages are judged by the
database's clock.
"""

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from shared import logs, metrics
from shared.db import attention
from shared.db.engine import rows
from shared.db.inbox import KEEP_DAYS

log = logs.get(__name__)

UNMATCHED_HOURS = 72  # Stripe tries a webhook for three days: what would name the payment has come by then, or never will
DROPPED_AT_ONCE_MAX = 1000

ADVISORY_LOCKS = "select pg_advisory_xact_lock(key) from unnest($1::bigint[]) as keys (key)"
KEYS = "select distinct object_key from waiting_events where event_id = any($1::text[])"
COUNT_UNMATCHED = """
select count(*) from waiting_events where state = 'waiting' and seen_at < now() - make_interval(hours => $1)
"""
NOT_REPORTED_YET = """
select w.object_key, (array_agg(w.event_id order by w.seen_at, w.event_id))[1]
from waiting_events w
where w.state = 'waiting' and w.seen_at < now() - make_interval(hours => $1)
  and not exists (select from attention a where a.aggregate = 'stripe:' || w.object_key and a.reason = 'unmatched_events')
group by w.object_key order by w.object_key
"""
TOO_OLD = """
select event_id, object_key from waiting_events where seen_at < now() - make_interval(days => $1)
order by seen_at, event_id limit $2
"""
DROP = """
with gone as (
    delete from waiting_events where event_id = any($1::text[]) returning event_id, topic, "partition", "offset"
), told as (
    insert into payment_ledger (event_id, event_type, event_created, decision, reason, topic, "partition", "offset")
    select g.event_id, coalesce(l.event_type, 'unknown'), l.event_created, 'dropped', $2, g.topic, g."partition", g."offset"
    from gone g left join payment_ledger l on l.event_id = g.event_id and l.decision = 'waiting'
    on conflict do nothing
)
select event_id from gone order by event_id
"""


def key_number(key: str) -> int:
    """Return the number under which PostgreSQL locks an id of Stripe's."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), signed=True)


async def lock_keys(tx: AsyncConnection, keys: Iterable[str]) -> None:
    """Lock these ids until commit: no other transaction links them, waits under them or drops what does."""
    numbers = sorted({key_number(key) for key in keys})
    if numbers:
        await rows(tx, ADVISORY_LOCKS, numbers)


def aggregate_of(key: str) -> str:
    """Return how matters name the intent, session or charge under which an event waits."""
    return f"stripe:{key}"


async def report_unmatched(tx: AsyncConnection) -> int:
    """Open a matter for each id whose events found no payment in three days; return the number of such events."""
    for key, event_id in await rows(tx, NOT_REPORTED_YET, UNMATCHED_HOURS):
        await attention.open_(tx, reason="unmatched_events", aggregate=aggregate_of(key), cause=event_id)
    count: int = (await rows(tx, COUNT_UNMATCHED, UNMATCHED_HOURS))[0][0]
    return count


async def prune(tx: AsyncConnection) -> list[str]:
    """Drop what has waited for 45 days, a thousand at most, and open a matter for each; return the ids."""
    old = dict(await rows(tx, TOO_OLD, KEEP_DAYS, DROPPED_AT_ONCE_MAX))
    dropped = await drop(tx, list(old), reason=f"it waited {KEEP_DAYS} days")
    for event_id in dropped:
        await attention.open_(tx, reason="waiting_event_dropped", aggregate=aggregate_of(old[event_id]), cause=event_id)
    metrics.events_dropped.inc(len(dropped))
    return dropped


async def drop(tx: AsyncConnection, events: Sequence[str], *, reason: str) -> list[str]:
    """Delete waiting events and record that in the ledger; return the ids of those that were there.

    Their keys are locked first: an event that a consumer is joining to its payment right now is gone, not dropped.
    """
    await lock_keys(tx, [row[0] for row in await rows(tx, KEYS, list(events))])
    dropped = [row[0] for row in await rows(tx, DROP, list(events), reason)]
    for event_id in dropped:
        log.warning("waiting_event.dropped", event_id=event_id, reason=reason)
    return dropped
