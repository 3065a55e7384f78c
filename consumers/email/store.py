"""The SQL of the ledger of letters.

One row per (booking, kind, role, cause), for ever: this table is the email consumer's dedup table. All leases are judged by
the database's clock, so that two machines need not agree about the time.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.email import compose
from consumers.email.kinds import NewLetter, Suppression
from consumers.email.ledger import Confirmation, Standing, State
from shared.db.engine import rows

LEASE_SECONDS = 25.0  # above the longest conversation with a mail server (20 s), so that an honest sender never loses it

ENTER = """
insert into letters (id, booking_id, kind, role, cause, payment_id, amount_minor, refunded_minor, currency, message_id, state)
select u.*, 'queued'
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[], $8::bigint[],
            $9::text[], $10::text[]) u
on conflict on constraint letters_once do nothing
"""
WITHHOLD = """
insert into letters (id, booking_id, kind, role, cause, payment_id, amount_minor, refunded_minor, currency, message_id,
                     reason, state)
select u.*, 'suppressed'
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[], $8::bigint[],
            $9::text[], $10::text[], $11::text[]) u
on conflict on constraint letters_once do update
set state = 'suppressed', reason = excluded.reason, updated_at = now()
where letters.state in ('queued', 'retrying')
returning id
"""
# A cancellation follows the confirmation of the same person. The payment is asked for what is true of it by now: its row is
# committed before any message tells of it.
LOAD = """
select l.state, l.attempts, l.lease_until is null or l.lease_until < now(), l.last_answer, l.kind, b.status::text,
       b.payment_id is not distinct from l.payment_id, l.refunded_minor, p.paid, p.amount_refunded_minor,
       c.state, c.lease_until is null or c.lease_until < now(), c.reason, c.last_answer, c.possible_duplicates
from letters l
left join bookings b on b.id = l.booking_id
left join payments p on p.id = l.payment_id
left join letters c on l.kind = 'cancellation' and c.kind = 'confirmation' and c.cause = ''
                   and c.booking_id = l.booking_id and c.role = l.role
where l.id = $1 for update of l
"""
CLAIM = """
update letters
set state = 'sending', claim_token = $2, lease_until = now() + make_interval(secs => $3), reason = null,
    possible_duplicates = possible_duplicates + $4::int, updated_at = now(),
    template_version = (select max(version) from letter_templates)
where id = $1
"""
FACTS = """
select l.kind, l.role, l.message_id, l.booking_id, l.amount_minor, l.refunded_minor, l.currency, l.template_version,
       b.session_datetime, b.duration_minutes, b.status = 'cancelled',
       cu.email, cp.first_name, cp.last_name, cp.timezone,
       ou.email, op.first_name, op.last_name, op.availability ->> 'timezone'
from letters l
join bookings b on b.id = l.booking_id
left join users cu on cu.id = b.client_id
left join client_profiles cp on cp.user_id = b.client_id
left join users ou on ou.id = b.coach_id
left join coach_profiles op on op.user_id = b.coach_id
where l.id = $1
"""
SUPPRESS_ONE = """
update letters set state = 'suppressed', reason = $2, claim_token = null, lease_until = null, updated_at = now()
where id = $1
"""
SENT = """
with held as (select id, claim_token is not distinct from $2 as still from letters where id = $1 for update)
update letters
set state = 'sent', sent_at = coalesce(sent_at, now()), attempts = attempts + (state <> 'sent')::int,
    last_answer = $3, reason = null, claim_token = null, lease_until = null, updated_at = now()
from held where letters.id = held.id
returning held.still, extract(epoch from now() - queued_at)::float8
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
class Recorded:
    """A 250 that was recorded: whether the claim was still ours, and how long the letter took from its entry."""

    claim_held: bool
    seconds: float


async def enter(tx: AsyncConnection, letters: Sequence[NewLetter]) -> None:
    """Queue the letters that are not known yet, whatever became of those that are."""
    if letters:
        await rows(tx, ENTER, *_columns(letters))


async def withhold(tx: AsyncConnection, letters: Sequence[tuple[NewLetter, Suppression]]) -> int:
    """Enter letters as suppressed, or suppress those that nobody is sending yet; return how many that were."""
    if not letters:
        return 0
    reasons = {letter.id: reason for letter, reason in letters}
    columns = _columns([letter for letter, _ in letters])
    return len(await rows(tx, WITHHOLD, *columns, [str(reasons[letter_id]) for letter_id in columns[0]]))


async def load(tx: AsyncConnection, letter_id: uuid.UUID) -> Standing | None:
    """Lock one letter and return how it stands, or None when the ledger does not know it."""
    found = await rows(tx, LOAD, letter_id)
    if not found:
        return None
    state, attempts, lease_over, last_answer, kind, booking_status, holds, refunded_minor, paid, now_refunded, *its = found[0]
    return Standing(
        state=State(state),
        attempts=attempts,
        lease_over=lease_over,
        last_answer=last_answer,
        kind=kind,
        booking_status=booking_status,
        holds_booking=holds,
        refunded_minor=refunded_minor,
        payment_paid=paid,
        payment_refunded_minor=now_refunded,
        confirmation=Confirmation(State(its[0]), *its[1:]) if its[0] else None,
    )


async def claim(tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID, *, maybe_sent: bool) -> None:
    """Take the lease of a letter that `load` locked; `maybe_sent` counts a possible duplicate."""
    await rows(tx, CLAIM, letter_id, token, LEASE_SECONDS, int(maybe_sent))


async def facts(tx: AsyncConnection, letter_id: uuid.UUID) -> compose.Facts | None:
    """Return what the letter is made of, as of now; None when its booking is gone."""
    found = await rows(tx, FACTS, letter_id)
    if not found:
        return None
    kind, role, message_id, booking_id, amount_minor, refunded_minor, currency, version, session_at, minutes, gone, *people = (
        found[0]
    )
    return compose.Facts(
        kind=kind,
        role=role,
        message_id=message_id,
        booking_id=str(booking_id),
        client=compose.Person(*people[:4]),
        coach=compose.Person(*people[4:]),
        session_at=_aware(session_at),
        duration_minutes=minutes,
        amount_minor=amount_minor,
        refunded_minor=refunded_minor,
        currency=currency,
        cancelled=gone,
        template_version=version,
    )


async def suppress(tx: AsyncConnection, letter_id: uuid.UUID, reason: Suppression) -> None:
    """End a letter that `load` locked, unsent."""
    await rows(tx, SUPPRESS_ONE, letter_id, str(reason))


async def record_sent(tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID, answer: str) -> Recorded:
    """Record the server's 250, whoever holds the claim by now: what was accepted is accepted."""
    held, seconds = (await rows(tx, SENT, letter_id, token, answer))[0]
    return Recorded(held, seconds)


async def record_dead(
    tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID, *, judged: bool, reason: str, answer: str | None
) -> bool:
    """Give the letter up, if the claim is still ours; `judged` counts an attempt. Return whether it was."""
    return bool(await rows(tx, DEAD, letter_id, token, int(judged), reason, answer))


async def release(tx: AsyncConnection, letter_id: uuid.UUID, token: uuid.UUID) -> None:
    """Give the claim back, if it is still ours, without counting an attempt."""
    await rows(tx, RELEASE, letter_id, token)


def _columns(letters: Sequence[NewLetter]) -> tuple[list[Any], ...]:
    """Return the letters by column, in the order of their ids: two processes then lock rows in one order."""
    ordered = sorted({letter.id: letter for letter in letters}.values(), key=lambda letter: letter.id)
    return (
        [letter.id for letter in ordered],
        [letter.booking_id for letter in ordered],
        [letter.kind for letter in ordered],
        [letter.role for letter in ordered],
        [letter.cause for letter in ordered],
        [letter.payment_id for letter in ordered],
        [letter.amount_minor for letter in ordered],
        [letter.refunded_minor for letter in ordered],
        [letter.currency for letter in ordered],
        [letter.message_id for letter in ordered],
    )


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)  # CultureBridge's times are naive and meant as UTC
