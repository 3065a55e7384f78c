"""The story of a batch of Stripe's events: judge, load under locks, decide, save; batch.py publishes and lets go.

Enters: records of `stripe.events`. Leaves: rows, and `payments.events`. Next in the walk: translate.py, decide.py.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.payments import store, versions
from consumers.payments.decide import Decided, Item, decide
from consumers.payments.translate import Refusal, translate
from shared import clock, logs, metrics
from shared.domain.ledger import Decision
from shared.domain.payment import Announcement
from shared.kafka.batch import Applied, folding
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming

log = logs.get(__name__)

TELLS_A_FAILURE = frozenset({Announcement.FAILED, Announcement.EXPIRED})


class Payments:
    """What the payments consumer brings to the one story of batches."""

    def judge(self, record: Incoming) -> Item | Refused:
        """Return the record's event, or why it is none."""
        match translate(record.value):
            case Refusal(reason=reason):
                return Refused(record, reason)
            case event:
                return Item(event, record)

    def record_of(self, item: Item) -> Incoming:
        """Return the record that brought an event."""
        return item.record

    async def apply(self, tx: AsyncConnection, items: Sequence[Item]) -> Applied:
        """Load, decide, save. Raises whatever PostgreSQL does, and FoldBroken when an event breaks the fold."""
        loaded = await store.load(tx, items)
        with folding():
            decided = decide(loaded, items, at=clock.now())
        await store.save(tx, decided)
        return Applied(decided.emitted, decided.refused, [lambda: tell(decided)])


def tell(decided: Decided) -> None:
    """Count and log what now stands in the database."""
    for line in decided.lines:
        metrics.stripe_events.labels(line.decision).inc()
        version = line.item.event.api_version
        metrics.stripe_event_versions.labels(versions.label(version), "yes" if version in versions.KNOWN else "no").inc()
        if line.decision is Decision.QUARANTINED:
            metrics.stripe_events_quarantined.labels((line.reason or "").partition(":")[0]).inc()
        log.info(
            "stripe_event.judged",
            outcome=line.decision,
            event_id=line.item.event.id,
            event_type=line.item.event.type,
            payment_id=line.payment_id,
            reason=line.reason,
        )
    metrics.events_waiting.inc(len(decided.waiting))
    for now, announcement in decided.announced:
        metrics.payments_changed.labels(announcement).inc()
        if announcement in TELLS_A_FAILURE:
            metrics.payment_failures.labels(now.failure_reason or "unknown").inc()
        log.info("payment.changed", payment_id=now.id, booking_id=now.booking_id, announcement=announcement, status=now.status)
