"""The SQL of payments: one lock order, set-based reads and writes.

Order inside the transaction: advisory keys of intents, sessions and charges that this batch, or what waits for it, may link or
leave waiting, sorted; then the payments, sorted by id; then, in new statements, what the inbox and the waiting table hold. Two
processes with events of one payment meet at its row, two that link and wait for one intent meet at its key; what touches no
payment is written sorted by event id. So no two processes wait for each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.payments.decide import BatchDecision, EventRecord, LedgerLine, LoadedState, Row
from consumers.payments.translate import Event, Refusal, translate
from shared.db import attention, inbox, waiting
from shared.db.data_errors import FoldBroken, folding
from shared.db.engine import begin_again, columns, rows
from shared.domain import money
from shared.domain.ledger import Decision
from shared.domain.payment import ClosedReason, Payment, Refund
from shared.kafka.records import Incoming
from shared.topics import STRIPE_EVENTS

CONSUMER = "payments"

# What waits, by key: the events, the ids of those refused, and why others are no events any more.
Waiting = tuple[dict[str, list[EventRecord]], frozenset[str], dict[str, dict[str, str]]]

# What is linked stays linked, and no event waits under it any more: its lock would only hold up other processes.
LOCK_UNLINKED = """
with unlinked as materialized (
    select number from unnest($1::text[], $2::bigint[]) as asked (key, number)
    where not exists (select from payment_intents where intent_id = asked.key)
      and not exists (select from payment_charges where charge_id = asked.key)
    order by number
)
select pg_advisory_xact_lock(number) from unlinked
"""
# By the ids in columns of `payments`: rows of the older application, and sessions.
LINKED = """
select stripe_session_id, id::text from payments where stripe_session_id = any($2::text[])
union all select stripe_payment_intent_id, id::text from payments where stripe_payment_intent_id = any($2::text[])
union all select charge_id, payment_id::text from payment_charges where charge_id = any($1::text[])
union all select intent_id, payment_id::text from payment_intents where intent_id = any($1::text[])
"""
LOCK_PAYMENTS = """
select id::text, booking_id::text, amount_minor, amount, currency, status::text, version, paid, failed, failure_reason,
       failure_created, charge_refunded_minor, stripe_session_id, stripe_payment_intent_id, closed_at is not null,
       closed_reason, slot_free
from payments where id = any($1::uuid[]) order by id for no key update
"""
AMOUNT_MINOR = 2  # its place in LOCK_PAYMENTS
EXIST = "select id::text from payments where id = any($1::uuid[])"
BESIDE = """
select 'intent', intent_id, payment_id::text, null::text, paid, null::bigint
from payment_intents where payment_id = any($1::uuid[])
union all
select 'refund', id, payment_id::text, status, ever_succeeded, amount_minor from refunds where payment_id = any($1::uuid[])
union all
select 'dispute', id, payment_id::text, status, null, null from disputes where payment_id = any($1::uuid[])
"""
WAITING = """
select event_id, state, object_key, body, topic, "partition", "offset" from waiting_events
where object_key = any($1::text[])
"""
# The time of the write: now() is when the transaction began, perhaps before another one that locked the row first.
UPDATE_PAYMENTS = """
update payments p set
    amount_minor = u.amount_minor,
    amount_refunded_minor = u.amount_refunded_minor,
    charge_refunded_minor = u.charge_refunded_minor,
    status = u.status::paymentstatus,
    version = u.version,
    paid = u.paid,
    failed = u.failed,
    cancel_due = u.cancel_due,
    slot_free = u.slot_free,
    failure_reason = u.failure_reason,
    failure_created = u.failure_created,
    closed_reason = u.closed_reason,
    closed_at = case when u.closed then coalesce(p.closed_at, now()) else p.closed_at end,
    stripe_session_id = coalesce(p.stripe_session_id, u.session_id),
    stripe_payment_intent_id = u.intent_id,
    updated_at = clock_timestamp() at time zone 'utc'
from unnest(
    $1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bool[], $8::bool[], $9::bool[],
    $10::bool[], $11::text[], $12::bigint[], $13::text[], $14::bool[], $15::text[], $16::text[]
) as u (
    id, amount_minor, amount_refunded_minor, charge_refunded_minor, status, version, paid, failed, cancel_due,
    slot_free, failure_reason, failure_created, closed_reason, closed, session_id, intent_id
)
where p.id = u.id and p.id = any($1::uuid[])
"""
UPSERT_INTENTS = """
insert into payment_intents (intent_id, payment_id, paid)
select * from unnest($1::text[], $2::uuid[], $3::bool[])
on conflict (intent_id) do update set paid = excluded.paid where payment_intents.paid <> excluded.paid
"""
INSERT_CHARGES = """
insert into payment_charges (charge_id, payment_id) select * from unnest($1::text[], $2::uuid[]) on conflict do nothing
"""
UPSERT_REFUNDS = """
insert into refunds (id, payment_id, status, ever_succeeded, amount_minor)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::bigint[])
on conflict (id) do update
set status = excluded.status, ever_succeeded = excluded.ever_succeeded, amount_minor = excluded.amount_minor
where refunds.payment_id = excluded.payment_id
returning id
"""
UPSERT_DISPUTES = """
insert into disputes (id, payment_id, status) select * from unnest($1::text[], $2::uuid[], $3::text[])
on conflict (id) do update set status = excluded.status where disputes.payment_id = excluded.payment_id
returning id
"""
INSERT_LINES = """
insert into payment_ledger (
    event_id, event_type, event_created, payment_id, decision, reason, fact, state_before, state_after, topic,
    "partition", "offset"
)
select u.event_id, u.event_type, u.created, u.payment_id, u.decision, u.reason, u.fact, u.before, u.after,
       u.topic, u."partition", u."offset"
from unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::json[], $8::jsonb[], $9::jsonb[],
    $10::text[], $11::int[], $12::bigint[]
) as u (event_id, event_type, created, payment_id, decision, reason, fact, before, after, topic, "partition", "offset")
on conflict do nothing
"""
INSERT_WAITING = """
insert into waiting_events (event_id, object_key, body, state, topic, "partition", "offset")
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::int[], $7::bigint[])
on conflict (event_id) do nothing
"""
DELETE_WAITING = "delete from waiting_events where event_id = any($1::text[])"
REFUSE_WAITING = "update waiting_events set state = 'refused' where event_id = any($1::text[])"


LOCKS_MAX = "select current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int"
LOCKS_PER_EVENT_MAX = 2  # advisory ones, on the intent, session and charge of a new payment, of which two events tell


class HeldElsewhere(FoldBroken):
    """A refund or a dispute belongs to another payment; at Stripe it never moves, so that its event is at fault."""


async def events_at_once_max(tx: AsyncConnection) -> int:
    """Return for how many events PostgreSQL's table of locks has room, if there are as many processes as partitions.

    A full table fails the statements of everybody who uses the server:
    https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-MAX-LOCKS-PER-TRANSACTION.
    """
    [(locks_max,)] = await rows(tx, LOCKS_MAX)
    return int(locks_max) // (LOCKS_PER_EVENT_MAX * STRIPE_EVENTS.partitions)


async def load(tx: AsyncConnection, items: Sequence[EventRecord]) -> LoadedState:
    """Lock what the batch touches and return all that deciding needs; after this nobody else changes it until commit.

    Raises FoldBroken for a row that cannot be read as a payment: only the events of that payment are refused.
    """
    events = [item.event for item in items]
    handled = [event for event in events if event.fact is not None]
    keys, (early, held, unreadable) = await _lock_keys(tx, {key for event in handled for key in event.keys})
    links = await _links(tx, keys, handled)
    named = {event.payment_id for event in handled if event.payment_id}
    payments, stored, older = await _lock_payments(tx, named | set(links.values()))
    known = await inbox.known(tx, CONSUMER, [(event.created, event.id) for event in events])
    return LoadedState(payments, links, known, early, held, unreadable, stored, older)


async def save(tx: AsyncConnection, loaded: LoadedState, decided: BatchDecision) -> None:
    """Write everything that was decided, in the transaction that loaded it; rows that would not change are left alone.

    Raises HeldElsewhere.
    """
    await _save_payments(tx, list(decided.payments.values()), loaded.stored)
    if decided.charges:
        await rows(tx, INSERT_CHARGES, *columns(decided.charges.items()))
    await _save_lines(tx, decided.lines)
    await _save_waiting(tx, decided)
    await _save_attention(tx, decided)
    await inbox.write(tx, CONSUMER, list(decided.entries.values()))
    await inbox.write_unlocked(tx, CONSUMER, sorted(decided.loose.values(), key=lambda entry: entry.event_id))


async def record_culprit(tx: AsyncConnection, item: EventRecord, reason: str) -> None:
    """Record that an event could not be taken, and open a matter for a person; nothing when its payment is unknown."""
    event = item.event
    links = await _links(tx, set(event.keys), [event])
    named = [event.payment_id, *(links.get(key) for key in event.keys)]
    exist = {row[0] for row in await rows(tx, EXIST, [payment_id for payment_id in named if payment_id is not None])}
    payment_id = next((payment_id for payment_id in named if payment_id in exist), None)
    if payment_id is not None:
        await _save_lines(tx, [LedgerLine(item, Decision.QUARANTINED, payment_id, reason)])
        await attention.open_(tx, reason=reason, aggregate=f"payment:{payment_id}", cause=event.id)


async def _lock_keys(tx: AsyncConnection, keys: AbstractSet[str]) -> tuple[set[str], Waiting]:
    """Lock these keys, those of the events that wait under them, and so on; return all of them, and what waits.

    Folding a waiting event links all ids that it names. Which further keys are needed is known only under the locks, but must
    not be waited for while they are held, since another process may lock them in the opposite order: so all locks are released,
    and taken anew.
    """
    wanted = set(keys)
    while True:
        if wanted:
            await rows(tx, LOCK_UNLINKED, list(wanted), [waiting.key_number(key) for key in wanted])
        found = await _waiting(tx, wanted)
        named = {key for items in found[0].values() for item in items for key in item.event.keys}
        if named <= wanted:
            return wanted, found
        await begin_again(tx)
        wanted |= named


async def _links(tx: AsyncConnection, keys: AbstractSet[str], events: Iterable[Event]) -> dict[str, str]:
    """Return which payment each key belongs to, as far as that is known.

    The columns of `payments` are searched for events whose metadata names no payment; for a session in any case, since metadata
    that names an unknown payment must not hide whose session it is.
    """
    if not keys:
        return {}
    named = [(event.session_id,) if event.payment_id else event.keys for event in events]
    asked = {key for keys in named for key in keys if key is not None}
    return {row[0]: row[1] for row in await rows(tx, LINKED, list(keys), list(asked))}


async def _lock_payments(
    tx: AsyncConnection, ids: Iterable[str]
) -> tuple[dict[str, Payment], AbstractSet[Row], AbstractSet[str]]:
    """Return the payments, the rows beside them that they were made of, and which of them only the older application wrote."""
    locked = list(ids)
    if not locked:
        return {}, frozenset(), frozenset()
    payments = await rows(tx, LOCK_PAYMENTS, locked)
    stored: set[Row] = set()
    intents: dict[str, dict[str, bool]] = defaultdict(dict)
    refunds: dict[str, dict[str, Refund]] = defaultdict(dict)
    disputes: dict[str, dict[str, str]] = defaultdict(dict)
    for kind, its_id, payment_id, status, flag, amount_minor in await rows(tx, BESIDE, locked):
        if kind == "intent":
            intents[payment_id][its_id] = flag
            stored.add((its_id, payment_id, flag))
        elif kind == "refund":
            refunds[payment_id][its_id] = Refund(status, flag, amount_minor)
            stored.add((its_id, payment_id, status, flag, amount_minor))
        else:
            disputes[payment_id][its_id] = status
            stored.add((its_id, payment_id, status))
    with folding():
        made = {row[0]: _payment(row, intents[row[0]], refunds[row[0]], disputes[row[0]]) for row in payments}
    return made, stored, {row[0] for row in payments if row[AMOUNT_MINOR] is None}


def _payment(row: Any, intents: dict[str, bool], refunds: dict[str, Refund], disputes: dict[str, str]) -> Payment:
    (payment_id, booking_id, amount_minor, amount, currency, status, version, paid, failed, reason, created) = row[:11]
    charge_refunded_minor, session_id, intent_id, closed, closed_reason, slot_free = row[11:]
    if amount_minor is None:
        # A row that the older application wrote: its columns are the facts, so that no event can demote it.
        amount_minor = money.nearest_minor(amount, currency)
        paid, failed = status in {"succeeded", "refunded"}, status == "failed"
        charge_refunded_minor = amount_minor if status == "refunded" else 0
        intents = intents or ({intent_id: paid} if intent_id else {})
    return Payment(
        id=payment_id,
        booking_id=booking_id,
        amount_minor=amount_minor,
        currency=currency.upper(),
        version=version,
        paid=paid,
        failed=failed,
        failure=(created, reason) if created is not None else None,
        charge_refunded_minor=charge_refunded_minor,
        refunds=refunds,
        disputes=disputes,
        intents=intents,
        session_id=session_id,
        closed=closed,
        closed_reason=ClosedReason(closed_reason) if closed_reason else None,
        slot_free=slot_free,
    )


async def _waiting(tx: AsyncConnection, keys: Iterable[str]) -> Waiting:
    """Return what waits under these keys: the events, the ids of those refused, and why others are no events any more."""
    asked = list(keys)
    early: dict[str, list[EventRecord]] = defaultdict(list)
    held: set[str] = set()
    unreadable: dict[str, dict[str, str]] = defaultdict(dict)
    for event_id, state, key, body, topic, partition, offset in await rows(tx, WAITING, asked) if asked else ():
        if state == "refused":
            held.add(event_id)
            continue
        match translate(body):
            case Refusal(reason=reason):
                unreadable[key][event_id] = reason
            case event:
                early[key].append(EventRecord(event, Incoming(topic, partition, offset, event_id.encode(), body)))
    return early, frozenset(held), unreadable


async def _save_payments(tx: AsyncConnection, payments: Sequence[Payment], stored: AbstractSet[Row]) -> None:
    if not payments:
        return
    await rows(tx, UPDATE_PAYMENTS, *columns(_payment_row(p) for p in payments))
    intents: list[Row] = [(intent, p.id, paid) for p in payments for intent, paid in p.intents.items()]
    refunds: list[Row] = [(r, p.id, x.status, x.ever_succeeded, x.amount_minor) for p in payments for r, x in p.refunds.items()]
    disputes: list[Row] = [(dispute, p.id, status) for p in payments for dispute, status in p.disputes.items()]
    if new := _new(intents, stored):
        await rows(tx, UPSERT_INTENTS, *columns(new))
    for statement, held in ((UPSERT_REFUNDS, refunds), (UPSERT_DISPUTES, disputes)):
        if new := _new(held, stored):
            written = await rows(tx, statement, *columns(new)) if len({row[0] for row in new}) == len(new) else ()
            if len(written) < len(new):
                raise HeldElsewhere


def _new(held: Iterable[Row], stored: AbstractSet[Row]) -> list[Row]:
    return [row for row in held if row not in stored]


def _payment_row(p: Payment) -> tuple[object, ...]:
    created, reason = p.failure or (None, None)
    closed_reason = str(p.closed_reason) if p.closed_reason else None
    amounts = (p.amount_minor, p.refunded_minor, p.charge_refunded_minor)
    flags = (p.paid, p.failed, p.cancel_due, p.slot_free)
    return (
        p.id,
        *amounts,
        str(p.status),
        p.version,
        *flags,
        reason,
        created,
        closed_reason,
        p.closed,
        p.session_id,
        p.intent_id,
    )


async def _save_lines(tx: AsyncConnection, lines: Sequence[LedgerLine]) -> None:
    if not lines:
        return
    # Lines that name no payment are written under no lock: two processes with the same events write them in one order,
    # and first, so that neither waits for the other crosswise. The others keep the order in which they were decided.
    unlocked = sorted((line for line in lines if line.payment_id is None), key=lambda line: line.item.event.id)
    locked = [line for line in lines if line.payment_id is not None]
    await rows(tx, INSERT_LINES, *columns(_line_row(line) for line in (*unlocked, *locked)))


def _line_row(line: LedgerLine) -> tuple[object, ...]:
    event, record = line.item.event, line.item.record
    states = (_json(event.ledger_fact), _json(line.before), _json(line.after))
    where = (record.topic, record.partition, record.offset)
    return (event.id, event.type, event.created, line.payment_id, str(line.decision), line.reason, *states, *where)


def _json(value: Mapping[str, object] | None) -> str | None:
    return msgspec.json.encode(value).decode() if value is not None else None


async def _save_waiting(tx: AsyncConnection, decided: BatchDecision) -> None:
    if decided.waiting:
        refused = decided.refused_waiting
        found = [
            (
                event_id,
                item.event.keys[0],
                item.record.value,
                "refused" if event_id in refused else "waiting",
                item.record.topic,
                item.record.partition,
                item.record.offset,
            )
            for event_id, item in decided.waiting.items()
        ]
        await rows(tx, INSERT_WAITING, *columns(found))
    if decided.freed:
        await rows(tx, DELETE_WAITING, decided.freed)
    if decided.refused_waiting:
        await rows(tx, REFUSE_WAITING, list(decided.refused_waiting))


async def _save_attention(tx: AsyncConnection, decided: BatchDecision) -> None:
    for matter in decided.attention:
        await attention.open_(tx, reason=matter.reason, aggregate=matter.aggregate, cause=matter.cause)
    for reason, aggregates in decided.settled.items():
        await attention.settle(tx, reason=reason, aggregates=aggregates, by=f"the {CONSUMER} consumer")
