"""The story of a batch of payments' changes: judge, load under locks, let each booking follow, save. Then batch.py publishes.

Enters: records of `payments.events`; decides from `data` and its version, never from the type, so that swapped or repeated
messages end right. Leaves: rows, and `bookings.events`.
Next in the walk: shared/domain/booking.py.
"""

from collections.abc import Hashable, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.bookings import store
from consumers.bookings.decide import BatchDecision, PaymentMessage, decide, matters_of_refused
from shared import clock, logs, messages, metrics
from shared.db.data_errors import folding
from shared.kafka.batch import TRANSACTION_ITEMS_MAX, TRANSACTIONS_MAX, Applied
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming

log = logs.get(__name__)


class Bookings:
    """The bookings consumer's part of what shared/kafka/batch.py does with a batch."""

    def judge(self, record: Incoming) -> PaymentMessage | Refused:
        """Return the record's event, or why it is none."""
        try:
            return PaymentMessage(messages.payment_states.decode(record.value), record)
        except msgspec.ValidationError as error:
            return Refused(record, f"wrong_shape:{error}")
        except messages.DECODING_ERRORS:
            return Refused(record, "not_json")

    def keys(self, item: PaymentMessage) -> Sequence[Hashable]:
        """Return its booking."""
        return (item.event.data.booking_id,)

    async def items_at_once_max(self, engine: AsyncEngine) -> int:  # noqa: ARG002 - locks of rows need no room in PostgreSQL's table
        """Return as many as are of use."""
        return TRANSACTIONS_MAX * TRANSACTION_ITEMS_MAX

    async def apply(self, tx: AsyncConnection, items: Sequence[PaymentMessage]) -> Applied:
        """Load, decide, save. Raises whatever PostgreSQL does, and FoldBroken when a message breaks the decision."""
        loaded = await store.load(tx, items)
        with folding():
            decided = decide(loaded, items, at=clock.now())
        await store.save(tx, decided)
        return Applied(decided.emitted, decided.refused, [lambda: log_decision(decided)])

    async def record_culprit(self, tx: AsyncConnection, item: PaymentMessage, reason: str) -> None:
        """Open a matter for a person when the booking of a payment that is paid, or given back, did not follow it."""
        await store.open_matters(tx, matters_of_refused(item, reason))


def log_decision(decided: BatchDecision) -> None:
    """Count and log what is now committed."""
    for report in decided.reports:
        metrics.bookings_changed.labels(report.name).inc()
        log.info(
            "booking.changed",
            outcome=report.name,
            booking_id=report.booking_id,
            payment_id=report.payment_id,
            reason=report.reason,
        )
