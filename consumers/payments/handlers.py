"""The story of a batch of Stripe's events: judge, load under locks, decide, save. Then batch.py publishes.

Enters: records of `stripe.events`. Leaves: rows, and `payments.events`. Next in the walk: translate.py.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.payments import freeing, store, versions
from consumers.payments.decide import BatchDecision, EventRecord, decide
from consumers.payments.translate import Refusal, translate
from shared import clock, logs, metrics
from shared.db.data_errors import folding
from shared.domain.ledger import Decision
from shared.domain.payment import Announcement
from shared.kafka.batch import TRANSACTION_ITEMS_MIN, Applied
from shared.kafka.dead_letters import Refused
from shared.kafka.records import RECONCILED, Incoming
from shared.stripe_events import API_VERSIONS_KNOWN

log = logs.get(__name__)

FAILURE_ANNOUNCEMENTS = frozenset({Announcement.FAILED, Announcement.EXPIRED})


class Payments:
    """The payments consumer's part of what shared/kafka/batch.py does with a batch."""

    def __init__(self) -> None:
        self._events_at_once_max: int | None = None

    def judge(self, record: Incoming) -> EventRecord | Refused:
        """Return the record's event, or why it is none."""
        match translate(record.value):
            case Refusal(reason=reason):
                return Refused(record, reason)
            case event:
                return EventRecord(event, record)

    def keys(self, item: EventRecord) -> Sequence[Hashable]:
        """Return its own id and those of all that it names: copies and events of one payment stay together."""
        event = item.event
        return (event.id, *event.keys) if event.payment_id is None else (event.id, event.payment_id, *event.keys)

    async def items_at_once_max(self, engine: AsyncEngine) -> int:
        """Return for how many events PostgreSQL's table of locks has room; raises one of TROUBLE."""
        if self._events_at_once_max is None:
            async with engine.begin() as tx:
                self._events_at_once_max = max(await store.events_at_once_max(tx), TRANSACTION_ITEMS_MIN)
        return self._events_at_once_max

    async def apply(self, tx: AsyncConnection, items: Sequence[EventRecord]) -> Applied:
        """Load, decide, save. Raises whatever PostgreSQL does, and FoldBroken when an event breaks the fold or its saving."""
        loaded = await store.load(tx, items)
        with folding():
            decided = decide(loaded, items, at=clock.now())
        if decided.freed and len(items) == 1:
            decided = await freeing.save(tx, loaded, items[0], decided)
        else:
            await store.save(tx, loaded, decided)
        return Applied(decided.emitted, decided.refused, [lambda: log_decision(decided)])

    async def record_culprit(self, tx: AsyncConnection, item: EventRecord, reason: str) -> None:
        """Record it in its payment's ledger and open a matter for a person: its dead letter is deleted after a month."""
        await store.record_culprit(tx, item, reason)


def log_decision(decided: BatchDecision) -> None:
    """Count and log what is now committed."""
    for line in decided.lines:
        event = line.item.event
        log.info(
            "stripe_event.judged",
            outcome=line.decision,
            event_id=event.id,
            event_type=event.type,
            payment_id=line.payment_id,
            announcement=line.announcement,
            reason=line.reason,
        )
        if line.decision is Decision.QUARANTINED:
            metrics.stripe_events_quarantined.labels((line.reason or "").partition(":")[0]).inc()
        if line.announcement in FAILURE_ANNOUNCEMENTS and line.after is not None:
            metrics.payment_failures.labels(line.after["failure_reason"] or "unknown").inc()
    for decision, count in Counter(line.decision for line in decided.lines).items():
        metrics.stripe_events.labels(decision).inc(count)
    for version, count in Counter(line.item.event.api_version for line in decided.lines).items():
        known = "yes" if version in API_VERSIONS_KNOWN else "no"
        metrics.stripe_event_versions.labels(versions.label(version), known).inc(count)
    for announcement, count in Counter(line.announcement for line in decided.lines if line.announcement).items():
        metrics.payments_changed.labels(announcement).inc(count)
    metrics.stripe_events_reconciled.inc(
        sum(RECONCILED in line.item.record.headers for line in decided.lines if line.decision is not Decision.DUPLICATE)
    )
    metrics.events_waiting.inc(len(decided.waiting))
