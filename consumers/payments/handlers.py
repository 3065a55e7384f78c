"""The story of a batch of Stripe's events: judge, load under locks, decide, save. Then batch.py publishes.

Enters: records of `stripe.events`. Leaves: rows, and `payments.events`. Next in the walk: translate.py.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

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
NOT_TRIED = "not_tried"  # why a freed event is left out while others are tried: nobody knows yet whether it can be stored


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

    An example: a success frees a refund, the refund names a charge, and that frees a dispute which PostgreSQL cannot hold. All
    together are refused, so each is tried, in rounds and in the order of ids; say, the dispute's is the smaller one. Round one:
    nothing frees the dispute while the refund is left out, so it is not tried; the refund is, and fits. Round two: the refund
    frees the dispute; it is tried, and refused. Round three finds nobody to try. The success and the refund are saved, and the
    dispute stays, with PostgreSQL's reason.
    """
    if await _refusal(tx, loaded, decided, keep=True) is None:
        return decided
    at = clock.now()
    unfit, last = dict.fromkeys(sorted(decided.freed), NOT_TRIED), None
    while unfit != last:
        last, unfit = unfit, await _try_freed(tx, loaded, item, unfit, at=at)
    decided = decide(loaded, [item], at=at, unfit=unfit)
    await store.save(tx, loaded, decided)
    return decided


async def _try_freed(
    tx: AsyncConnection, loaded: Loaded, item: Item, unfit: Mapping[str, str], *, at: datetime
) -> dict[str, str]:
    """Go once through the freed events that nobody tried yet; return who is unfit after it.

    Each is tried beside all those that fit so far. If it fits, it is unfit no longer; if PostgreSQL refuses it, it is unfit for
    that reason; if nothing that fits frees it, it stays untried.
    """
    found = dict(unfit)
    for event_id in [event_id for event_id, reason in unfit.items() if reason == NOT_TRIED]:
        others = {other: reason for other, reason in found.items() if other != event_id}
        trial = decide(loaded, [item], at=at, unfit=others)
        if event_id in trial.freed | trial.refused_waiting:
            reason = await _refusal(tx, loaded, trial, keep=False)
            found = others if reason is None else others | {event_id: reason}
    return found


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
