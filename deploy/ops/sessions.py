"""Find payments that are stuck because Stripe never made the event that would change them.

In rare cases Stripe fails to make an event, and then neither sends nor lists it
(https://docs.stripe.com/webhooks/handle-irrecoverable-events): the customer has paid, and the booking can be neither confirmed
nor paid again. So each session that should be over, and whose end no event reported, is looked up at Stripe. Enters: our
database, Stripe, and the events on their way. Leaves: the state of these sessions; for each paid one a matter for a person,
resolved here once the payment changes. Nothing else is written: only events change money.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops.errors import StripeUnavailable, database_errors_as_ops_errors
from deploy.ops.progress import Progress
from deploy.ops.reconciliation import ReconciliationReport, Resources, Window, named, pages
from shared import clock
from shared.db import attention, reconciled
from shared.db.engine import rows
from shared.stripe_api import Failure, NoSuchSession, Session, SessionStatus, StripeApi

REASON = "session_paid_without_event"
# A session may be paid in its last second. Then its webhook comes within seconds; and where webhooks fail, this command's next
# run, within the hour, brings the event.
GRACE = timedelta(hours=1)
ASKED_MAX = 500  # in one run, which so takes a minute or two
ASKED_PER_SECOND_MAX = 10  # Stripe allows 25 of one kind, checkout's among them: https://docs.stripe.com/rate-limits

# Drawn by lot where there are too many: of the oldest some may stay as they are for good, and none behind them would have a
# turn. What a person has looked after is left alone. An index of its own holds the payments under way: all of them take
# longer to read than a statement may, once they are tens of millions.
OVERDUE = """
select p.id, p.stripe_session_id, count(*) over () from payments p
where not p.paid and p.closed_at is null and p.stripe_session_id is not null and p.expires_at < $1 and not exists (
    select from attention a
    where a.aggregate = 'payment:' || p.id and a.reason = $2 and a.resolved_at is not null
)
order by random() limit $3
"""
MOVED_ON = """
select a.aggregate from attention a join payments p on p.id = split_part(a.aggregate, ':', 2)::uuid
where a.reason = $1 and a.resolved_at is null and (p.paid or p.closed_at is not null)
"""


class SessionState(StrEnum):
    """The state at Stripe of a session that should be over."""

    PAID = "paid"
    EXPIRED = "expired"
    UNDER_WAY = "under way"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OverduePayment:
    """An open, unpaid payment whose session ended a while ago."""

    payment_id: UUID
    session_id: str


@dataclass(frozen=True, slots=True)
class OverdueReport:
    """The state of overdue payments at Stripe; `left` were not looked up in this run.

    Each that is `paid` is a matter for a person, `moved_on` counts earlier matters that are none any more.
    """

    asked: int
    left: int
    paid: tuple[OverduePayment, ...]
    unknown: tuple[OverduePayment, ...]
    expired: int
    under_way: int
    moved_on: int


def state_of(answer: Session | NoSuchSession) -> SessionState:
    """Classify what Stripe says about a session. Pure."""
    match answer:
        case NoSuchSession():
            return SessionState.UNKNOWN
        case Session(status=SessionStatus.COMPLETE, is_paid=True):
            return SessionState.PAID
        case Session(status=SessionStatus.EXPIRED):
            return SessionState.EXPIRED
        case Session():
            return SessionState.UNDER_WAY


async def check_overdue(
    resources: Resources, compared: ReconciliationReport, *, dry_run: bool, progress: Progress
) -> OverdueReport:
    """Look up each overdue session, and open a matter for each paid one; `dry_run` only finds them.

    A session that an event names which is missing in `compared`, or which Stripe made since, is no matter. Raises
    StripeUnavailable or DatabaseUnavailable; a matter is opened for what Stripe returned before its failure.
    """
    coming = {name for one in compared.missing for name in one.about}
    async with database_errors_as_ops_errors(resources.configured), resources.engine.begin() as tx:
        found = await rows(tx, OVERDUE, clock.now() - GRACE, REASON, ASKED_MAX)
    overdue = _unnamed([OverduePayment(payment_id, session_id) for payment_id, session_id, _ in found], coming)
    states, failure = await _retrieve(resources.api, overdue, progress=progress)
    paid = [one for one in overdue if states.get(one) is SessionState.PAID]
    if paid:
        # Its money may have come a moment ago, and its event be on its way like any other.
        young = [page async for page in pages(resources, Window(compared.until, clock.now()))]
        paid = _unnamed(paid, {name for page in young for event in page for name in named(event.body)})
    moved_on = 0
    if not dry_run:
        async with database_errors_as_ops_errors(resources.configured), resources.engine.begin() as tx:
            moved_on = await _open_matters(tx, paid)
    if failure is not None:
        raise StripeUnavailable(resources.configured, failure)
    count = list(states.values()).count
    return OverdueReport(
        asked=len(states),
        left=found[0][2] - len(found) if found else 0,
        paid=tuple(paid),
        unknown=tuple(one for one in overdue if states[one] is SessionState.UNKNOWN),
        expired=count(SessionState.EXPIRED),
        under_way=count(SessionState.UNDER_WAY) + count(SessionState.PAID) - len(paid),
        moved_on=moved_on,
    )


def _unnamed(overdue: Sequence[OverduePayment], names: Collection[str]) -> list[OverduePayment]:
    return [one for one in overdue if str(one.payment_id) not in names and one.session_id not in names]


async def _retrieve(
    api: StripeApi, overdue: Sequence[OverduePayment], *, progress: Progress
) -> tuple[dict[OverduePayment, SessionState], Failure | None]:
    """Return what Stripe says about each; after a failure, what it said before."""
    states: dict[OverduePayment, SessionState] = {}
    for begin in range(0, len(overdue), ASKED_PER_SECOND_MAX):
        if begin:
            await asyncio.sleep(1.0)
        some = overdue[begin : begin + ASKED_PER_SECOND_MAX]
        answers = await asyncio.gather(*(api.retrieve_session(one.session_id) for one in some))
        failure = None
        for one, answer in zip(some, answers, strict=True):
            match answer:
                case Session() | NoSuchSession():
                    states[one] = state_of(answer)
                case _:
                    failure = answer
        if failure is not None:
            return states, failure
        progress(len(states), len(overdue))
    return states, None


async def _open_matters(tx: AsyncConnection, paid: Sequence[OverduePayment]) -> int:
    """Open a matter for each of these, resolve those whose payment is paid or closed by now, and return how many those were."""
    for one in paid:
        await attention.open_(tx, reason=REASON, aggregate=f"payment:{one.payment_id}", cause=one.session_id)
    moved_on = [aggregate for (aggregate,) in await rows(tx, MOVED_ON, REASON)]
    await attention.settle(tx, reason=REASON, aggregates=moved_on, by=reconciled.BY)
    return len(moved_on)
