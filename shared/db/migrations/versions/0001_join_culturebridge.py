"""Join a database that exists: CultureBridge's types and tables, created only where they are missing, exactly as they are.

There is no way down: a migration of ours never drops what others wrote.
"""

from alembic import op

revision = "0001"
down_revision = None

TYPES = {
    "userrole": "'client', 'coach', 'admin'",
    "bookingstatus": "'pending', 'confirmed', 'completed', 'cancelled'",
    "paymentstatus": "'pending', 'succeeded', 'failed', 'refunded'",
}

TABLES = """
create table if not exists users (
    id uuid primary key,
    email varchar(255) not null unique,
    password_hash varchar(255) not null,
    role userrole not null,
    is_active boolean not null default true,
    email_verified boolean not null default false,
    created_at timestamp not null default (now() at time zone 'utc'),
    updated_at timestamp not null default (now() at time zone 'utc')
);
create table if not exists client_profiles (
    id uuid primary key,
    user_id uuid not null unique references users (id) on delete cascade,
    first_name varchar(100),
    last_name varchar(100),
    photo_url varchar(500),
    phone varchar(20),
    timezone varchar(50),
    quiz_data jsonb not null default '{}'::jsonb,
    preferences jsonb,
    created_at timestamp not null default (now() at time zone 'utc'),
    updated_at timestamp not null default (now() at time zone 'utc')
);
create table if not exists coach_profiles (
    id uuid primary key,
    user_id uuid not null unique references users (id) on delete cascade,
    first_name varchar(100),
    last_name varchar(100),
    photo_url varchar(500),
    bio text,
    intro_video_url varchar(500),
    expertise text[],
    languages text[],
    countries text[],
    hourly_rate numeric(10, 2),
    currency varchar(3) default 'USD',
    availability jsonb,
    rating numeric(3, 2),
    total_sessions integer,
    is_verified boolean,
    created_at timestamp not null default (now() at time zone 'utc'),
    updated_at timestamp not null default (now() at time zone 'utc')
);
create table if not exists bookings (
    id uuid primary key,
    client_id uuid not null references users (id),
    coach_id uuid not null references users (id),
    session_datetime timestamp not null,
    duration_minutes integer not null default 60,
    status bookingstatus not null default 'pending',
    payment_id uuid,
    meeting_link varchar(500),
    notes text,
    created_at timestamp not null default (now() at time zone 'utc'),
    updated_at timestamp not null default (now() at time zone 'utc')
);
create table if not exists payments (
    id uuid primary key,
    booking_id uuid not null references bookings (id),
    amount numeric(10, 2) not null,
    currency varchar(3) not null default 'USD',
    status paymentstatus not null default 'pending',
    stripe_session_id varchar(255),
    stripe_payment_intent_id varchar(255),
    created_at timestamp not null default (now() at time zone 'utc'),
    updated_at timestamp not null default (now() at time zone 'utc')
);
"""


def upgrade() -> None:
    """Create what is missing; whatever is there stays as it is."""
    for name, labels in TYPES.items():
        op.execute(f"do $$ begin if to_regtype('{name}') is null then create type {name} as enum ({labels}); end if; end $$")
    for statement in filter(str.strip, TABLES.split(";")):
        op.execute(statement)
