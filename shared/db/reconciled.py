"""Keeps until when Stripe's events were compared with ours, and notices when that was long ago.

Enters: the end of a comparison (`cb-ops stripe reconcile`, which runs by an operator's timer), or the hourly check of the
payments consumer. Leaves: a row for each of Stripe's accounts; a matter for a person once nothing was compared for a day, which
the next comparison that leaves no gap resolves. Where no comparison ever ran no matter is opened: a timer that was never set
has not stopped. Next: an operator, who finds the matter by `cb-ops attention`.
"""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import attention
from shared.db.engine import rows

REASON = "stripe_not_reconciled"
BY = "cb-ops stripe reconcile"
HOURS_MAX = 24  # it is to run hourly, and goes back four days
ALL_DAYS = 29  # Stripe keeps an event for thirty: a comparison that goes back so far leaves no gap

RECORD = """
insert into stripe_reconciliations (account_id, compared_until) values ($1, $2)
on conflict (account_id) do update
set compared_until = greatest(stripe_reconciliations.compared_until, excluded.compared_until)
where stripe_reconciliations.compared_until >= $3 or $3 <= $2::timestamptz - make_interval(days => $4)
returning account_id
"""
OVERDUE = """
select account_id, compared_until from stripe_reconciliations
where compared_until < $1::timestamptz - make_interval(hours => $2) order by account_id
"""


async def record(tx: AsyncConnection, account_id: str, *, since: datetime, until: datetime) -> None:
    """Record that all that an account had by `until` is here, unless a gap lies between the last comparison and `since`."""
    if await rows(tx, RECORD, account_id, until, since, ALL_DAYS):
        await attention.settle(tx, reason=REASON, aggregates=[_about(account_id)], by=BY)


async def report_overdue(tx: AsyncConnection, *, now: datetime) -> None:
    """Open a matter for each account of which nothing was compared for a day, once for each such pause."""
    for account_id, until in await rows(tx, OVERDUE, now, HOURS_MAX):
        await attention.open_(tx, reason=REASON, aggregate=_about(account_id), cause=f"{until:%Y-%m-%dT%H:%M:%SZ}")


def _about(account_id: str) -> str:
    return f"stripe:{account_id}"
