"""Events that wait for their payment: list, replay, drop.

Enters: a connection, and which events. Leaves: plain values; a replayed event stays where it is until the payments consumer has
processed it, a dropped one is recorded in the ledger with who dropped it. Next: consumers of `stripe.events` process a replay
like any record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops.errors import NotFound
from shared import topics
from shared.db import waiting
from shared.db.engine import rows
from shared.kafka import dead_letters
from shared.kafka.records import Record, headers_of_stripe

COLUMNS = """
w.event_id, l.event_type, w.object_key, w.seen_at,
case when w.state = 'waiting' and w.seen_at < now() - make_interval(hours => $1) then 'unmatched' else w.state end,
w.topic, w."partition", w."offset"
"""
FROM = " from waiting_events w left join payment_ledger l on l.event_id = w.event_id and l.decision = 'waiting' "
LIST = "select" + COLUMNS + FROM + "order by w.seen_at, w.event_id"
ONE = "select" + COLUMNS + ", w.body" + FROM + "where w.event_id = $2"
BODIES = "select event_id, body from waiting_events where event_id = any($1::text[]) order by seen_at, event_id"
EVERY_BODY = "select event_id, body from waiting_events order by seen_at, event_id"


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """One event that waits under `key`; `state` is waiting, unmatched (waiting for more than 72 h) or refused."""

    event_id: str
    event_type: str | None
    key: str
    seen_at: datetime
    state: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class WithBody:
    """One event that waits, and what Stripe signed; whatever waits was decoded when it came, so that it is text."""

    event: WaitingEvent
    body: str


async def listed(tx: AsyncConnection) -> list[WaitingEvent]:
    """Return every event that waits, oldest first, without its body."""
    return [WaitingEvent(*row) for row in await rows(tx, LIST, waiting.UNMATCHED_HOURS)]


async def one(tx: AsyncConnection, event_id: str) -> WithBody:
    """Return one event with its body; raises NotFound."""
    found = await rows(tx, ONE, waiting.UNMATCHED_HOURS, event_id)
    if not found:
        raise NotFound(f"no event {event_id} waits")
    *event, body = found[0]
    return WithBody(WaitingEvent(*event), body.decode())


async def replays(tx: AsyncConnection, events: Sequence[str] | None, *, prefix: str) -> list[Record]:
    """Return the records that offer these events again, or all of them for None: the same bytes, key and headers, a new trace.

    Raises NotFound when one of them does not wait.
    """
    found = await (rows(tx, EVERY_BODY) if events is None else rows(tx, BODIES, list(events)))
    if events is not None and (absent := set(events) - {event_id for event_id, _ in found}):
        raise NotFound(f"no event {min(absent)} waits")
    goal = topics.STRIPE_EVENTS.named(prefix)
    replay = ((dead_letters.REPLAY, b"1"),)
    return [Record(goal, event_id.encode(), content, headers_of_stripe(event_id) + replay) for event_id, content in found]


async def drop(tx: AsyncConnection, events: Sequence[str], *, by: str) -> list[str]:
    """Give these events up, all or none, and write into the ledger who did; raises NotFound."""
    dropped = await waiting.drop(tx, events, reason=f"by {by}")
    if absent := set(events) - set(dropped):
        raise NotFound(f"no event {min(absent)} waits")
    return dropped
