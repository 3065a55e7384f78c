"""The story of a batch of Stripe's events: judge, load under locks, decide, save. Then batch.py publishes.

Enters: records of `stripe.events`. Leaves: rows, and `payments.events`. Next in the walk: translate.py, decide.py.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.payments import store, versions
from consumers.payments.decide import Decided, Item, Loaded, decide
from consumers.payments.translate import Refusal, translate
from shared import clock, logs, metrics
from shared.db.data_errors import error_name, folding, is_data_error
from shared.domain.ledger import Decision
from shared.domain.payment import Announcement
from shared.kafka.batch import Applied
from shared.kafka.dead_letters import Refused
from shared.kafka.records import RECONCILED, Incoming
from shared.stripe_events import API_VERSIONS_KNOWN

log = logs.get(__name__)

TELLS_A_FAILURE = frozenset({Announcement.FAILED, Announcement.EXPIRED})


class Payments:
    """The payments consumer's part of what shared/kafka/batch.py does with a batch."""

    def judge(self, record: Incoming) -> Item | Refused:
        """Return the record's event, or why it is none."""
        match translate(record.value):
            case Refusal(reason=reason):
                return Refused(record, reason)
            case event:
                return Item(event, record)

    async def apply(self, tx: AsyncConnection, items: Sequence[Item]) -> Applied:
        """Load, decide, save. Raises whatever PostgreSQL does, and FoldBroken when an event breaks the fold or its saving."""
        loaded = await store.load(tx, items)
        with folding():
            decided = decide(loaded, items, at=clock.now())
        if decided.freed and len(items) == 1:
            decided = await save_with_freed(tx, loaded, items[0], decided)
        else:
            await store.save(tx, loaded, decided)
        return Applied(decided.emitted, decided.refused, [lambda: tell(decided)])

    async def note_culprit(self, tx: AsyncConnection, item: Item, reason: str) -> None:
        """Write it into its payment's ledger and open a matter for a person: its dead letter is deleted after a month."""
        await store.note_culprit(tx, item, reason)


async def save_with_freed(tx: AsyncConnection, loaded: Loaded, item: Item, decided: Decided) -> Decided:
    """Save an event together with the waiting events that it frees; return what stands in the end.

    When PostgreSQL refuses the data, each freed event is tried by itself, after those that free it. One that cannot be stored
    goes on waiting, marked as refused, so that no event which freed it is blamed for it. The event is alone in its batch here:
    batch.py halves until it is. Raises what PostgreSQL does when the event itself is at fault.
    """
    if await _refusal(tx, loaded, decided, keep=True) is None:
        return decided
    at = clock.now()
    untried, tried = sorted(decided.freed), True
    unfit = dict.fromkeys(untried, "not_tried")
    while tried:
        tried = False
        for event_id in list(untried):
            others = {other: reason for other, reason in unfit.items() if other != event_id}
            trial = decide(loaded, [item], at=at, unfit=others)
            if event_id not in trial.freed | trial.refused_waiting:
                continue  # nobody who was tried by now frees it
            reason = await _refusal(tx, loaded, trial, keep=False)
            unfit = others if reason is None else others | {event_id: reason}
            untried.remove(event_id)
            tried = True
    decided = decide(loaded, [item], at=at, unfit=unfit)
    await store.save(tx, loaded, decided)
    return decided


async def _refusal(tx: AsyncConnection, loaded: Loaded, decided: Decided, *, keep: bool) -> str | None:
    """Save behind a savepoint; return why PostgreSQL refuses the data, or None when it took it (undone unless `keep`)."""
    savepoint = await tx.begin_nested()
    try:
        # A trial opens no matter for a person: that would be logged and counted although it is undone.
        await store.save(tx, loaded, decided if keep else replace(decided, attention=[]))
    except Exception as error:
        if not is_data_error(error):
            raise
        await savepoint.rollback()
        return f"broke_its_batch:{error_name(error)}"
    await (savepoint.commit() if keep else savepoint.rollback())
    return None


def tell(decided: Decided) -> None:
    """Count and log what now stands in the database."""
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
        if line.announcement in TELLS_A_FAILURE and line.after is not None:
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
