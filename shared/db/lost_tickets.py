"""Notices letters that are open although nothing in Kafka stands for them any more: no consumer ever looks at them again.

An open letter is looked at within seconds, or waits with all others: for the email consumer, for the mail server. So its ticket
counts as lost only when another letter was sent after the time in which it would have been looked at, and that was an hour ago:
by then a consumer that was away has taken what waited. A refund's letter waits for the bookings consumer as well, and for the
booking's cancellation: of one that waits for an hour the email consumer opens a matter of its own. Enters: the hourly check of
the payments consumer. Leaves: a matter for a person, which a later check resolves once the letter was sent, suppressed or given
up. Next: an operator, who finds the matter by `cb-ops attention`.
"""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import attention
from shared.db.engine import rows

REASON = "ticket_lost"
BY = "the hourly check"
CATCHING_UP = timedelta(hours=1)
LOOKED_AT_WITHIN = timedelta(minutes=10)  # a step of the ladder takes 16 s, a lease 25 s; more while many letters are retried
AT_ONCE_MAX = 1000

LAST_SENT = "select max(changed_at) from letter_changes where state = 'sent' and changed_at < $1"
# What a refund's letter waits for is the rule of consumers/email/ledger.py.
LOST = """
select l.booking_id::text, l.id::text from letters l
where l.state in ('queued', 'sending', 'retrying') and l.queued_at < $1 and l.updated_at < $1
  and (l.kind <> 'refund' or exists (
      select from booking_payments k
      where k.payment_id = l.payment_id and k.paid and (l.refunded_minor < l.amount_minor or (k.cancel_due and (
          k.cancelled_booking is not true or exists (
              select from letters x where x.booking_id = l.booking_id and x.kind = 'cancellation' and x.role = l.role
          )
      )))
  ))
  and not exists (
      select from attention a
      where a.aggregate = 'booking:' || l.booking_id and a.reason = 'ticket_lost' and a.cause = l.id::text
  )
order by l.queued_at, l.id limit $2
"""
REPORTED = "select distinct aggregate from attention where reason = $1 and resolved_at is null"
OPEN = """
select distinct booking_id::text from letters
where booking_id = any($1::uuid[]) and state in ('queued', 'sending', 'retrying')
"""


async def report(tx: AsyncConnection, *, now: datetime) -> None:
    """Open a matter for each letter whose ticket was lost, a thousand at a time, and resolve those whose letters have ended."""
    await _settle(tx)
    [(last_sent,)] = await rows(tx, LAST_SENT, now - CATCHING_UP)
    if last_sent is None:
        return
    for booking_id, letter_id in await rows(tx, LOST, last_sent - LOOKED_AT_WITHIN, AT_ONCE_MAX):
        await attention.open_(tx, reason=REASON, aggregate=_about(booking_id), cause=letter_id)


async def _settle(tx: AsyncConnection) -> None:
    reported = [aggregate for (aggregate,) in await rows(tx, REPORTED, REASON)]
    if reported:
        still_open = {_about(row[0]) for row in await rows(tx, OPEN, [one.partition(":")[2] for one in reported])}
        ended = [aggregate for aggregate in reported if aggregate not in still_open]
        await attention.settle(tx, reason=REASON, aggregates=ended, by=BY)


def _about(booking_id: str) -> str:
    return f"booking:{booking_id}"
