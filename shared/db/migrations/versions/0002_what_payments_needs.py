"""Extend `payments` without rewriting it, and create the tables that the pipeline owns.

Every new column is nullable or has a constant default, which PostgreSQL stores once instead of in each row. A row that the
older application wrote stays valid; a paid one stays paid: its facts are seeded when it is first loaded.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

EXTEND_PAYMENTS = """
alter table payments
    add column if not exists amount_minor bigint,
    add column if not exists amount_refunded_minor bigint not null default 0,
    add column if not exists charge_refunded_minor bigint not null default 0,
    add column if not exists paid boolean not null default false,
    add column if not exists failed boolean not null default false,
    add column if not exists cancel_due boolean not null default false,
    add column if not exists slot_free boolean not null default false,
    add column if not exists failure_reason text,
    add column if not exists failure_created bigint,
    add column if not exists closed_at timestamptz,
    add column if not exists closed_reason text,
    add column if not exists expires_at timestamptz,
    add column if not exists checkout_request jsonb,
    add column if not exists idempotency_key text,
    add column if not exists version bigint not null default 0;
alter table payments set (fillfactor = 70);
"""

# One open payment per booking: of older twins the newest succeeded one stays open, else the newest. A refunded payment no
# longer blocks a new checkout, unlike a declined one, whose session may still be paid.
CLOSE_OLDER_TWINS = """
update payments set closed_at = now(), closed_reason = 'refunded' where status = 'refunded';
update payments set closed_at = now() from (
    select id, row_number() over (
        partition by booking_id order by (status = 'succeeded') desc, created_at desc, id desc
    ) as place
    from payments where closed_at is null
) twins
where twins.id = payments.id and twins.place > 1;
create unique index payments_one_open_per_booking on payments (booking_id) where closed_at is null;
create unique index payments_idempotency_key_while_open on payments (idempotency_key)
    where idempotency_key is not null and closed_at is null;
create index payments_booking_id_all on payments (booking_id);
create index payments_stripe_session_id_all on payments (stripe_session_id) where stripe_session_id is not null;
create index payments_stripe_payment_intent_id_all on payments (stripe_payment_intent_id)
    where stripe_payment_intent_id is not null;
"""

OURS = """
create table payment_intents (
    intent_id text primary key,
    payment_id uuid not null,
    paid boolean not null default false
);
create index ix_payment_intents_payment_id on payment_intents (payment_id);
create table refunds (
    id text primary key,
    payment_id uuid not null,
    status text not null,
    ever_succeeded boolean not null,
    amount_minor bigint not null
);
create index ix_refunds_payment_id on refunds (payment_id);
create table disputes (
    id text primary key,
    payment_id uuid not null,
    status text not null
);
create index ix_disputes_payment_id on disputes (payment_id);
create table payment_ledger (
    id bigint generated always as identity primary key,
    recorded_at timestamptz not null default now(),
    event_id text not null,
    event_type text not null,
    event_created timestamptz,
    payment_id uuid,
    decision text not null,
    reason text,
    state_before jsonb,
    state_after jsonb,
    topic text not null,
    "partition" integer not null,
    "offset" bigint not null
);
create unique index payment_ledger_once on payment_ledger
    (event_id, decision, (coalesce(payment_id, '00000000-0000-0000-0000-000000000000'::uuid)));
create index ix_payment_ledger_payment_id on payment_ledger (payment_id);
create table waiting_events (
    event_id text primary key,
    object_key text not null,
    body bytea not null,
    seen_at timestamptz not null default now(),
    state text not null default 'waiting',
    topic text not null,
    "partition" integer not null,
    "offset" bigint not null
);
create index ix_waiting_events_object_key on waiting_events (object_key);
create table attention (
    id uuid primary key,
    reason text not null,
    aggregate text not null,
    cause text not null,
    opened_at timestamptz not null default now(),
    resolved_at timestamptz,
    resolved_by text
);
create table inbox (
    consumer text not null,
    created timestamptz not null,
    event_id text not null,
    emitted bytea[] not null,
    topic text not null,
    "partition" integer not null,
    "offset" bigint not null,
    primary key (consumer, created, event_id)
) partition by range (created);
create table inbox_default partition of inbox default;
create table booking_payments (
    payment_id uuid primary key,
    booking_id uuid not null,
    version bigint not null,
    paid boolean not null,
    cancel_due boolean not null,
    conflict_reason text
);
create index ix_booking_payments_booking_id on booking_payments (booking_id);
create table booking_versions (
    booking_id uuid primary key,
    version bigint not null
);
create table letters (
    id uuid primary key,
    booking_id uuid not null,
    kind text not null,
    role text not null,
    cause text not null default '',
    payment_id uuid,
    amount_minor bigint,
    currency varchar(3),
    state text not null,
    reason text,
    attempts integer not null default 0,
    claim_token uuid,
    lease_until timestamptz,
    message_id text not null,
    template_version integer,
    last_answer text,
    possible_duplicates integer not null default 0,
    queued_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sent_at timestamptz,
    constraint letters_once unique (booking_id, kind, role, cause)
);
"""

# What the bookings consumer would know had it been there: an older payment that is paid is not judged a second time.
SEED_BOOKING_PAYMENTS = """
insert into booking_payments (payment_id, booking_id, version, paid, cancel_due)
select id, booking_id, 0, true, status = 'refunded' from payments where status in ('succeeded', 'refunded');
"""


def upgrade() -> None:
    """Extend and create in one transaction: all of it, or nothing."""
    for script in (EXTEND_PAYMENTS, CLOSE_OLDER_TWINS, OURS, SEED_BOOKING_PAYMENTS):
        for statement in filter(str.strip, script.split(";")):
            op.execute(statement)
