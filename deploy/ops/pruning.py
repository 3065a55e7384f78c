"""Delete what is needed no more, each step in its own transaction, so that a stopped run can simply be repeated.

Enters: an engine of the database's owner, and this moment. Leaves: what was made, dropped and deleted of the inbox, whole
months at once, and how many checkouts were forgotten. An event that is redelivered after its entry is gone changes nothing: the
fold joins facts that it knows already.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.ops.progress import Progress
from shared import logs
from shared.db import inbox
from shared.db.engine import rows

log = logs.get(__name__)

DELETED_AT_ONCE_MAX = 10_000
NOW = "select now()"
# The door forgets the customer's address and the coach's name when Stripe has answered (ingress/checkout_rules.py). A payment
# that never got a session still holds them; from its end on no call resumes it. Whoever holds a row now is passed over.
FORGET_CHECKOUTS = """
update payments set checkout_request = checkout_request - array['item_name', 'customer_email']
where id in (
    select id from payments where checkout_request ? 'customer_email' and expires_at < $1
    order by expires_at limit $2 for update skip locked
)
returning id
"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one run did; `deleted` counts entries of the DEFAULT partition, which no month's partition held.

    `forgotten` counts checkouts that came to nothing, and whose name and address are gone.
    """

    kept_since: datetime
    made: tuple[str, ...]
    dropped: tuple[str, ...]
    deleted: int
    forgotten: int


async def moment(engine: AsyncEngine) -> datetime:
    """Return the database's present time: an operator's machine whose clock is ahead would delete too much."""
    async with engine.begin() as tx:
        now: datetime = (await rows(tx, NOW))[0][0]
        return now


async def prune(engine: AsyncEngine, now: datetime, *, progress: Progress) -> Pruned:
    """Create the partitions of the coming months, drop expired ones, delete expired rows of the DEFAULT partition.

    Raises one of engine.TROUBLE, also when a lock could not be had in 5 s; `progress` is called with how many are deleted.
    """
    async with engine.begin() as tx:
        made = await inbox.make_partitions(tx, now)
        outdated = await inbox.outdated_partitions(tx, now)
    for name in outdated:
        async with engine.begin() as tx:
            await inbox.drop_partition(tx, name)
        log.info("inbox.partition_dropped", step=name)
    deleted, more = 0, True
    while more:
        async with engine.begin() as tx:
            gone = await inbox.delete_outdated(tx, now, at_once_max=DELETED_AT_ONCE_MAX)
        deleted, more = deleted + gone, gone == DELETED_AT_ONCE_MAX
        progress(deleted, deleted + gone)
    forgotten, more = 0, True
    while more:
        async with engine.begin() as tx:
            gone = len(await rows(tx, FORGET_CHECKOUTS, now, DELETED_AT_ONCE_MAX))
        forgotten, more = forgotten + gone, gone == DELETED_AT_ONCE_MAX
    return Pruned(inbox.kept_since(now), tuple(made), tuple(outdated), deleted, forgotten)
