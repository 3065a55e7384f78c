"""Saves an event together with the waiting events that it frees: one that PostgreSQL cannot hold is refused without the others.

Enters: an event, alone in its batch (batch.py halves until it is), and what was decided about it. Leaves: rows, and the
decision that they show. Next: store.py.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.payments import store
from consumers.payments.decide import BatchDecision, EventRecord, LoadedState, decide
from shared import clock
from shared.db.data_errors import is_data_error
from shared.db.error_names import error_name


async def save(tx: AsyncConnection, loaded: LoadedState, item: EventRecord, decided: BatchDecision) -> BatchDecision:
    """Save what was decided; return the decision that is saved in the end.

    When PostgreSQL refuses the data, the freed events are tried one by one; one that it cannot hold goes on waiting, marked as
    refused, and nothing that it would have freed is freed by it. Raises what PostgreSQL does when `item` itself is at fault.
    """
    savepoint = await tx.begin_nested()
    try:
        await store.save(tx, loaded, decided)
    except Exception as error:
        if not is_data_error(error):
            raise
        await savepoint.rollback()
    else:
        await savepoint.commit()
        return decided
    at = clock.now()
    unfit = await _unfit(tx, loaded, item, decided.freed, at=at)
    without_unfit = decide(loaded, [item], at=at, unfit=unfit)
    await store.save(tx, loaded, without_unfit)
    return without_unfit


async def _unfit(
    tx: AsyncConnection, loaded: LoadedState, item: EventRecord, freed: Sequence[str], *, at: datetime
) -> Mapping[str, str]:
    """Return the freed events that PostgreSQL cannot hold, with the reason.

    They are tried in the opposite order of folding, each beside those before it that fit: an event comes before those that it
    frees, so that it is not blamed for them.
    """
    unfit: dict[str, str] = {}
    untried = set(freed)
    for event_id in reversed(freed):
        untried.discard(event_id)
        trial = decide(_without(loaded, untried), [item], at=at, unfit=unfit)
        reason = await _refusal(tx, loaded, trial)
        if reason is not None:
            unfit[event_id] = reason
    return unfit


async def _refusal(tx: AsyncConnection, loaded: LoadedState, trial: BatchDecision) -> str | None:
    """Save and undo it; return why PostgreSQL refuses the data, or None when it takes it."""
    savepoint = await tx.begin_nested()
    reason = None
    try:
        # A trial opens no matter for a person: that would be logged and counted although it is undone.
        await store.save(tx, loaded, replace(trial, attention=[]))
    except Exception as error:
        if not is_data_error(error):
            raise
        reason = f"broke_its_batch:{error_name(error)}"
    await savepoint.rollback()
    return reason


def _without(loaded: LoadedState, events: AbstractSet[str]) -> LoadedState:
    """Return what was loaded, as if these events did not wait."""
    waiting = {key: [item for item in items if item.event.id not in events] for key, items in loaded.waiting.items()}
    return replace(loaded, waiting=waiting)
