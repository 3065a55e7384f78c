"""The SQL of the ledger of letters.

One row per (booking, kind, role, cause), for ever: this table is the email consumer's dedup table. All leases are judged by
the database's clock, so that two machines need not agree about the time.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.email import compose, ledger
from consumers.email.kinds import NewLetter, Suppression
from consumers.email.ledger import Confirmation, LetterRow, State
from shared.db.engine import columns, rows

# Above what a conversation with a mail server may take (20 s to DATA, 80 s in all): a sender that works never loses its lease.
LEASE_SECONDS = 25.0
HANDED_OVER_LEASE_SECONDS = 90.0

# The conflict names no key, since the table has two: if it named one, two processes that enter the same letter at once would
# conflict on the other, and PostgreSQL would refuse the second one's event.
ENTER = """
insert into letters (id, booking_id, kind, role, cause, payment_id, amount_minor, refunded_minor, currency, message_id, state)
select u.*, 'queued'
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[], $8::bigint[],
            $9::text[], $10::text[]) u
on conflict do nothing
"""
NOT_ENDED = "select id from letters where id = any($1::uuid[]) and state not in ('sent', 'suppressed', 'dead')"
WITHHOLD = """
insert into letters (id, booking_id, kind, role, cause, payment_id, amount_minor, refunded_minor, currency, message_id,
                     reason, state)
select u.*, 'suppressed'
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[], $8::bigint[],
            $9::text[], $10::text[], $11::text[]) u
on conflict do nothing
"""
# A claim under which DATA has not begun is taken back, too: its sender may wait for a connection for long, and asks HAND_OVER
# before DATA. What may have been accepted under an earlier claim still may have been.
TAKE_BACK = """
with held as (
  select l.id, case when l.possible_duplicates > 0 or l.last_answer = any($3::text[]) then $4::text else u.reason end as reason
  from letters l join unnest($1::uuid[], $2::text[]) u (id, reason) on u.id = l.id
  where l.state in ('queued', 'retrying') or (l.state = 'sending' and l.handed_over_at is null)
  order by l.id for update of l
)
update letters
set state = 'suppressed', reason = held.reason, claim_token = null, lease_until = null, updated_at = now()
from held where letters.id = held.id
"""
# `c` is the same person's confirmation, on which a cancellation depends; `x` is the same person's cancellation, on which a full
# refund's letter depends. `p` shows the payment as it is by now: its row is committed before any message about it is published.
# Which payment holds a booking that names none is the rule of shared/domain/booking.py; a payment in conflict never held it.
# In the order of their ids, so that two processes lock rows in one order.
LOAD = """
select l.id, l.state, l.attempts, l.lease_until is null or l.lease_until < now(), l.handed_over_at is not null,
       l.last_answer, l.kind, b.status::text, l.possible_duplicates,
       b.payment_id is not distinct from l.payment_id
       or (b.id is not null and b.payment_id is null and k.conflict_reason is null and not exists (
           select from booking_payments other
           where other.booking_id = l.booking_id and other.payment_id <> l.payment_id and other.paid and not other.cancel_due
       )),
       l.amount_minor, l.refunded_minor, p.paid, p.amount_refunded_minor, k.paid is true, k.cancel_due is true,
       k.cancelled_booking,
       c.state, c.lease_until is null or c.lease_until < now(), c.handed_over_at is not null,
       c.reason, c.last_answer, c.possible_duplicates, x.state
from letters l
left join bookings b on b.id = l.booking_id
left join payments p on p.id = l.payment_id
left join booking_payments k on k.payment_id = l.payment_id
left join letters c on l.kind in ('cancellation', 'refund') and c.kind = 'confirmation' and c.cause = ''
                   and c.booking_id = l.booking_id and c.role = l.role
left join letters x on l.kind = 'refund' and x.kind = 'cancellation' and x.cause = ''
                   and x.booking_id = l.booking_id and x.role = l.role
where l.id = any($1::uuid[]) order by l.id for update of l
"""
# A letter that may have been accepted is counted now, and its last answer cleared; a claim that sends nothing, as while the
# mail server is away, must not count it again.
CLAIM = """
update letters
set state = 'sending', claim_token = u.token, lease_until = now() + make_interval(secs => $5), handed_over_at = null,
    attempts = u.attempts, reason = null, possible_duplicates = possible_duplicates + u.maybe_sent, updated_at = now(),
    last_answer = case u.maybe_sent when 0 then last_answer end,
    template_version = (select max(version) from letter_templates)
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[]) u (id, token, attempts, maybe_sent)
where letters.id = u.id
"""
HAND_OVER = """
with held as (
  select l.id
  from letters l join unnest($1::uuid[], $2::uuid[]) u (id, token) on u.id = l.id and u.token = l.claim_token
  order by l.id for update of l
)
update letters
set handed_over_at = now(), lease_until = now() + make_interval(secs => $3), updated_at = now()
from held where letters.id = held.id
returning letters.claim_token
"""
# PostgreSQL has years that Python has not: no letter can be written about them, and the other letters must not wait.
FACTS = """
select l.id, l.template_version, (select max(t.put_at) from letter_templates t where t.version = l.template_version),
       l.kind, l.role, l.message_id, l.booking_id, l.amount_minor, l.refunded_minor, p.amount_refunded_minor, l.currency,
       case when b.session_datetime between '0001-01-01' and '9999-12-31' then b.session_datetime else 'infinity' end,
       b.duration_minutes, b.status = 'cancelled',
       cu.email, cp.first_name, cp.last_name, cp.timezone,
       ou.email, op.first_name, op.last_name, op.availability ->> 'timezone'
from letters l
join bookings b on b.id = l.booking_id
left join payments p on p.id = l.payment_id
left join users cu on cu.id = b.client_id
left join client_profiles cp on cp.user_id = b.client_id
left join users ou on ou.id = b.coach_id
left join coach_profiles op on op.user_id = b.coach_id
where l.id = any($1::uuid[])
"""
SUPPRESS = """
update letters
set state = 'suppressed', reason = u.reason, claim_token = null, lease_until = null, updated_at = now()
from unnest($1::uuid[], $2::text[]) u (id, reason)
where letters.id = u.id
"""
SENT = """
with held as (
  select l.id, l.claim_token is not distinct from u.token as still, u.answer
  from letters l join unnest($1::uuid[], $2::uuid[], $3::text[]) u (id, token, answer) on u.id = l.id
  order by l.id for update of l
)
update letters
set state = 'sent', sent_at = coalesce(sent_at, now()), attempts = attempts + (state <> 'sent')::int,
    last_answer = held.answer, reason = null, claim_token = null, lease_until = null, updated_at = now()
from held where letters.id = held.id
returning letters.id, held.still, greatest(extract(epoch from now() - queued_at)::float8, 0)
"""
RETRYING = """
update letters
set state = 'retrying', attempts = attempts + 1, reason = $3, last_answer = $4,
    claim_token = null, lease_until = null, updated_at = now()
where id = $1 and claim_token = $2
returning id
"""
DEAD = """
update letters
set state = 'dead', attempts = attempts + $3::int, reason = $4, last_answer = $5,
    claim_token = null, lease_until = null, updated_at = now()
where id = $1 and claim_token = $2
returning id
"""
RELEASE = """
update letters
set state = case when attempts > 0 then 'retrying' else 'queued' end,
    claim_token = null, lease_until = null, updated_at = now()
where id = $1 and claim_token = $2
"""


@dataclass(frozen=True, slots=True)
class ClaimWrite:
    """One claim to be written: its token, how often the letter was tried, whether it may have been accepted before."""

    letter_id: uuid.UUID
    token: uuid.UUID
    attempts: int
    maybe_sent: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """A 250 to be recorded, with the claim under which the letter was sent."""

    letter_id: uuid.UUID
    token: uuid.UUID
    answer: str


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """A version of the templates. The number alone is none: a database that lost its newest version gives that number again."""

    number: int
    put_at: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """A 250 that was recorded: whether the claim was still ours, and how long the letter took from its entry."""

    claim_held: bool
    seconds: float


async def enter(tx: AsyncConnection, letters: Sequence[NewLetter]) -> set[uuid.UUID]:
    """Queue the letters that are not known yet; return those that have not ended (those of a repeated event may have)."""
    if not letters:
        return set()
    entered = columns(map(_new_row, _by_id(letters)))
    await rows(tx, ENTER, *entered)
    return {row[0] for row in await rows(tx, NOT_ENDED, entered[0])}


async def withhold(tx: AsyncConnection, letters: Sequence[tuple[NewLetter, Suppression]]) -> None:
    """Enter letters as suppressed, or suppress known ones for which DATA has not begun."""
    if not letters:
        return
    reasons = {letter.id: str(reason) for letter, reason in letters}
    withheld = _by_id(letter for letter, _ in letters)
    await rows(tx, WITHHOLD, *columns((*_new_row(letter), reasons[letter.id]) for letter in withheld))
    perhaps = (list(ledger.PERHAPS_ACCEPTED), str(Suppression.CANCELLED_PERHAPS_SENT))
    await rows(tx, TAKE_BACK, list(reasons), list(reasons.values()), *perhaps)


async def load(tx: AsyncConnection, letter_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, LetterRow]:
    """Lock letters and return what their rows hold; ids that the ledger does not have are left out."""
    return {row[0]: _letter_row(row) for row in await rows(tx, LOAD, list(letter_ids))}


async def claim(tx: AsyncConnection, claims: Sequence[ClaimWrite]) -> None:
    """Take the leases of letters that `load` locked, and count those that may have been accepted before."""
    taken = columns((one.letter_id, one.token, one.attempts, int(one.maybe_sent)) for one in claims)
    await rows(tx, CLAIM, *taken, LEASE_SECONDS)


async def facts(tx: AsyncConnection, letter_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, tuple[compose.Facts, TemplateVersion]]:
    """Return the facts of each letter, as of now, and what it is written by; those whose booking is gone are left out."""
    found = await rows(tx, FACTS, list(letter_ids))
    return {row[0]: (_facts(*row[3:]), TemplateVersion(*row[1:3])) for row in found}


async def suppress(tx: AsyncConnection, letters: Sequence[tuple[uuid.UUID, Suppression]]) -> None:
    """Suppress letters that `load` locked, each for its reason."""
    await rows(tx, SUPPRESS, *columns((letter_id, str(reason)) for letter_id, reason in letters))


async def hand_over(tx: AsyncConnection, claims: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> set[uuid.UUID]:
    """Record that DATA begins for these letters (id, token), and renew their leases; return the tokens that still hold."""
    return {row[0] for row in await rows(tx, HAND_OVER, *columns(claims), HANDED_OVER_LEASE_SECONDS)}


async def record_sent(tx: AsyncConnection, sent: Sequence[Sent]) -> dict[uuid.UUID, Recorded]:
    """Record the server's 250s, even when other senders hold the claims by now: what was accepted stays accepted.

    Letters that the ledger does not have are left out.
    """
    recorded = await rows(tx, SENT, *columns((one.letter_id, one.token, one.answer) for one in sent))
    return {row[0]: Recorded(*row[1:]) for row in recorded}


async def record_retrying(tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID, *, reason: str, answer: str) -> bool:
    """Count a failed attempt that is to be repeated, if the claim is still ours; return whether it was."""
    return bool(await rows(tx, RETRYING, letter_id, token, reason, answer))


async def record_dead(
    tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID, *, judged: bool, reason: str, answer: str | None
) -> bool:
    """Give the letter up, if the claim is still ours; `judged` counts an attempt. Return whether it was."""
    return bool(await rows(tx, DEAD, letter_id, token, int(judged), reason, answer))


async def release(tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID) -> None:
    """Give the claim back, if it is still ours, without counting an attempt."""
    await rows(tx, RELEASE, letter_id, token)


def _by_id(letters: Iterable[NewLetter]) -> list[NewLetter]:
    """Return each letter once, in the order of their ids: two processes then lock rows in one order."""
    return sorted({letter.id: letter for letter in letters}.values(), key=lambda letter: letter.id)


def _new_row(letter: NewLetter) -> tuple[object, ...]:
    return (
        letter.id,
        letter.booking_id,
        letter.kind,
        letter.role,
        letter.cause,
        letter.payment_id,
        letter.amount_minor,
        letter.refunded_minor,
        letter.currency,
        letter.message_id,
    )


def _letter_row(row: Any) -> LetterRow:
    """Return what one row of LOAD holds; its columns have these names."""
    (
        _letter_id,
        state,
        attempts,
        lease_over,
        handed_over,
        last_answer,
        kind,
        booking_status,
        possible_duplicates,
        holds_booking,
        amount_minor,
        refunded_minor,
        payment_paid,
        payment_refunded_minor,
        success_judged,
        full_refund_judged,
        cancelled_booking,
        confirmation_state,
        confirmation_lease_over,
        confirmation_handed_over,
        confirmation_reason,
        confirmation_last_answer,
        confirmation_possible_duplicates,
        cancellation_state,
    ) = row
    confirmation = None
    if confirmation_state is not None:
        confirmation = Confirmation(
            state=State(confirmation_state),
            lease_over=confirmation_lease_over,
            handed_over=confirmation_handed_over,
            reason=confirmation_reason,
            last_answer=confirmation_last_answer,
            possible_duplicates=confirmation_possible_duplicates,
        )
    return LetterRow(
        state=State(state),
        attempts=attempts,
        lease_over=lease_over,
        handed_over=handed_over,
        last_answer=last_answer,
        kind=kind,
        booking_status=booking_status,
        possible_duplicates=possible_duplicates,
        holds_booking=holds_booking,
        amount_minor=amount_minor,
        refunded_minor=refunded_minor,
        payment_paid=payment_paid,
        payment_refunded_minor=payment_refunded_minor,
        success_judged=success_judged,
        full_refund_judged=full_refund_judged,
        cancelled_booking=cancelled_booking,
        confirmation=confirmation,
        cancellation=None if cancellation_state is None else State(cancellation_state),
    )


def _facts(
    kind: str,
    role: compose.Role,
    message_id: str,
    booking_id: uuid.UUID,
    amount_minor: int,
    refunded_minor: int | None,
    payment_refunded_minor: int | None,
    currency: str,
    session_at: datetime,
    duration_minutes: int,
    cancelled: bool,  # noqa: FBT001 - a column
    *people: str | None,
) -> compose.Facts:
    return compose.Facts(
        kind=kind,
        role=role,
        message_id=message_id,
        booking_id=str(booking_id),
        client=compose.Person(*people[:4]),
        coach=compose.Person(*people[4:]),
        session_at=_aware(session_at),
        duration_minutes=duration_minutes,
        amount_minor=amount_minor,
        refunded_minor=ledger.refund_to_name(kind, refunded_minor, payment_refunded_minor),
        currency=currency,
        cancelled=cancelled,
    )


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)  # CultureBridge's times are naive and meant as UTC
