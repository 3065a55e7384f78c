"""`cb-ops roles` on a real database, with real logins: each process does its work, and nothing else.

Roles belong to the whole server: these tests run one after the other, on one worker.
"""

import asyncio
import importlib
import json
import pkgutil
import uuid
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from deploy.ops import audit, matters, sessions, waiting_events, why
from deploy.ops.cli import app
from deploy.ops.rights import RIGHTS
from deploy.ops.roles import wanted, written
from ingress import store as door
from shared import clock, settings
from shared.db import attention, inbox, letter_templates, lost_tickets, reconciled, waiting
from shared.db import engine as engines
from shared.db.engine import rows
from shared.db.inbox import Entry
from tests.support.builders import Sale, insert_sales
from tests.support.consumers import walking
from tests.support.plans import STATEMENTS

# What each role asks for, beside the constants of its own room.
SHARED = {
    "cb_ingress": ["ingress"],
    "cb_payments": [
        "consumers.payments",
        attention.OPEN,
        attention.RESOLVED,
        attention.SETTLE,
        inbox.KNOWN,
        inbox.INSERT,
        inbox.PARTITIONS,
        lost_tickets,
        reconciled.OVERDUE,
        waiting,
    ],
    "cb_bookings": ["consumers.bookings", attention.OPEN, attention.RESOLVED, inbox.KNOWN, inbox.INSERT],
    "cb_email": ["consumers.email", attention.OPEN, attention.RESOLVED, letter_templates.NEWEST, letter_templates.SOURCES],
    "cb_operator": [
        *(audit, matters, sessions, waiting_events, why, letter_templates),
        *(attention.OPEN, attention.SETTLE, reconciled.RECORD),
        *(inbox.KNOWN, waiting.ADVISORY_LOCKS, waiting.KEYS, waiting.DROP),
    ],
}
# Written by a trigger upon `letters`, in the name of whoever changes a letter.
BY_TRIGGER = ("cb_email", "letter_changes")
REFUSED = "42501"  # SQLSTATE: insufficient_privilege
FOR_NOBODY = [
    "update payment_ledger set decision = 'applied'",
    "delete from payment_ledger",
    "truncate payment_ledger",
    "delete from letter_changes",
    "update letter_templates set source = ''",
    "delete from payments",
    "delete from inbox",
    "select password_hash from users",
    "select * from users",
    "select phone from client_profiles",
    "update users set role = 'admin'",
    "alter table payments add column mine int",
    "drop table inbox_default",
    "create table mine (id int)",
    "create table inbox_2091_01 partition of inbox for values from ('2091-01-01') to ('2091-02-01')",
    "create role mine",
    "update payments_alembic_version set version_num = '0001'",
]
FOR_OTHERS = {
    "cb_ingress": [
        "update payments set status = 'succeeded'",
        "select * from payment_ledger",
        "update bookings set status = 'confirmed'",
    ],
    "cb_payments": [
        "update bookings set status = 'confirmed'",
        "insert into payments (id, booking_id, amount) values (gen_random_uuid(), gen_random_uuid(), 1)",
        "update payments set booking_id = gen_random_uuid()",
        "select email from users",
    ],
    "cb_bookings": [
        "select * from payments",
        "update bookings set client_id = gen_random_uuid()",
        "delete from bookings",
    ],
    "cb_email": [
        "update bookings set status = 'cancelled'",
        "delete from letters",
        "update letters set message_id = ''",
        "select * from inbox",
    ],
    "cb_operator": [
        "update payments set status = 'refunded'",
        "update letters set state = 'sent'",
        "delete from attention",
        "delete from dead_letter_actions",
        "select email from users",
    ],
}


def said(source):
    """Every statement of a text, of a module's constants, or of a room's modules."""
    if isinstance(source, str) and " " in source:
        return [source]
    if isinstance(source, str):
        room = importlib.import_module(source)
        modules = pkgutil.iter_modules(room.__path__, prefix=f"{source}.")
        return [text for _, name, _ in modules if not name.endswith("__main__") for text in said(importlib.import_module(name))]
    constants = [value for name, value in vars(source).items() if name.isupper() and isinstance(value, str)]
    several = [text for texts in getattr(source, "PAYMENT_OF", {}).values() for text in texts]
    return [text for text in constants + several if text.split()[:1] and text.split()[0] in STATEMENTS]


def statements(role):
    return list(dict.fromkeys(text for source in SHARED[role] for text in said(source)))


@pytest.fixture
def ops(database):
    """Run `cb-ops` as the owner of the tables, or as another login."""

    async def run(*arguments, by=database):
        environment = {"DATABASE_URL": by.database_url.get_secret_value()}
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)

    return run


@pytest.fixture
async def logins(ops, engine, database):
    """Settings of a login of each role, as operators make them."""
    applied = await ops("roles", "apply")
    assert applied.exit_code == 0, applied.output
    made, password = {role: f"t_{uuid.uuid4().hex[:12]}" for role in RIGHTS}, uuid.uuid4().hex
    async with engine.begin() as tx:
        for role, login in made.items():
            await rows(tx, f"create role {login} login password '{password}' in role {role}")
    url = make_url(database.database_url.get_secret_value())
    yield {
        role: settings.Database(database_url=url.set(username=login, password=password).render_as_string(hide_password=False))
        for role, login in made.items()
    }
    async with engine.begin() as tx:
        for login in made.values():
            await rows(tx, f"drop role {login}")


@pytest.fixture
async def engine_of(logins):
    """An engine by which a role works, as its process makes it."""
    made = {role: engines.create(login, application=role) for role, login in logins.items()}
    yield made
    for one in made.values():
        await one.dispose()


async def test_the_plan_is_the_sql_that_is_missing_and_applying_it_twice_changes_nothing(ops, engine):
    """Planned, applied, planned again: the same lines, then none."""
    planned, applied = await ops("roles", "plan"), await ops("roles", "apply")
    again, machine = await ops("roles", "apply"), await ops("roles", "plan", "--json")

    assert "grant select (email, id, is_active, role) on table users to cb_ingress;" in sql(planned)
    assert sql(planned) == sql(applied)
    assert sql(again) == ["-- nothing to do: roles and rights are as the map says"]
    assert json.loads(machine.stdout) == {"statements": [], "notes": [], "kept": []}


async def test_what_goes_beyond_the_map_is_taken_away(ops, engine):
    """A right, a power, a membership that somebody gave by hand; what everybody has is told."""
    await ops("roles", "apply")
    async with engine.begin() as tx:
        await rows(tx, "grant delete on payment_ledger to cb_payments")
        await rows(tx, "grant select (password_hash) on users to cb_email")
        await rows(tx, "alter role cb_email createdb")
        await rows(tx, "grant pg_read_all_data to cb_bookings")
        await rows(tx, "grant create on schema public to public")
        await rows(tx, "grant select on refunds to public")

    planned = await ops("roles", "plan")
    await ops("roles", "apply")

    assert set(sql(planned)) == {
        "alter role cb_email nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls;",
        "revoke pg_read_all_data from cb_bookings;",
        "revoke create on schema public from public;",
        "revoke delete on table payment_ledger from cb_payments;",
        "revoke select (password_hash) on table users from cb_email;",
        "-- every user has this right, our processes too: grant select on table refunds to public",
    }
    assert sql(await ops("roles", "plan"))[-1].startswith("-- nothing to do")


async def test_what_an_older_release_may_need_is_kept_where_that_is_asked(ops, engine):
    """Its processes run until the new ones are ready: what is missing is given, and what they have is not taken."""
    await ops("roles", "apply")
    async with engine.begin() as tx:
        await rows(tx, "grant delete on payment_ledger to cb_payments")
        await rows(tx, "revoke insert on payment_ledger from cb_payments")

    kept = sql(await ops("roles", "apply", "--keep"))

    given, told = kept[0], kept[1:]
    assert given.startswith("grant insert (")
    assert told == ["-- kept: revoke delete on table payment_ledger from cb_payments"]
    assert sql(await ops("roles", "plan")) == ["revoke delete on table payment_ledger from cb_payments;"]


async def test_a_database_without_tables_is_told_what_to_do(empty_database):
    """Roles come after tables."""
    environment = {"DATABASE_URL": empty_database.database_url.get_secret_value()}
    result = await asyncio.to_thread(CliRunner().invoke, app, ["roles", "plan"], env=environment)

    assert result.exit_code == 1
    assert result.stderr.endswith("run `cb-ops migrate`\n")


async def test_a_role_may_say_every_statement_of_its_room(logins):
    """Whatever stands in a constant of the process's code is allowed: PostgreSQL asks for rights before it explains."""
    for role, login in logins.items():
        asked = statements(role)
        async with connected(login) as connection:
            assert [text for text in asked if not await is_allowed(connection, text)] == [], role
        assert len(asked) >= 6, role


async def test_a_role_has_no_right_that_it_does_not_need(database, logins):
    """Take any one away, and some statement of the room is refused."""
    needless = []
    async with connected(database) as connection:
        for role in logins:
            asked = statements(role)
            for right in wanted(database="d", schema="public", rights={role: RIGHTS[role]}):
                if right.kind == "table" and (role, right.name) != BY_TRIGGER:
                    transaction = connection.transaction()
                    await transaction.start()
                    await connection.execute(f"{written('revoke', 'from', [right])[0]}; set local role {role}")
                    if not await is_missed(connection, [text for text in asked if right.name in text]):
                        needless.append(right)
                    await transaction.rollback()

    assert needless == []


async def test_a_whole_purchase_and_its_refund_go_through_under_the_roles(engine, engine_of, mailbox):
    """The door takes the payment, three consumers do the rest, letters go out, and an operator can tell the story."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
        await rows(tx, "delete from payments")
    booking_id, payment_id = uuid.UUID(sale.booking_id), uuid.UUID(sale.payment_id)
    now = clock.now()
    payment = door.Payment(
        id=payment_id,
        booking_id=booking_id,
        amount_minor=7500,
        currency="USD",
        is_paid=False,
        is_attempted=False,
        created_at=now,
        expires_at=now + timedelta(hours=1),
        closed_at=None,
        session_id=None,
        request={"mode": "payment"},
        idempotency_key="key",
    )
    async with door.transaction(engine_of["cb_ingress"]) as tx:
        booking = await door.load_booking(tx, booking_id)
        assert await door.load_user(tx, booking.client_id)
        assert await door.insert_payment(tx, payment)
        assert await door.bind_session(tx, payment, sale.session_id, payment.request)

    by_room = {room: engine_of[f"cb_{room}"] for room in ("payments", "bookings", "email")}
    async with walking(engine, mailbox, **by_room) as walk:
        await walk.stripe_says(
            sale.refund(600, "pending"), sale.completed(), sale.succeeded(), sale.succeeded(), sale.refunded()
        )
    async with engine_of["cb_operator"].begin() as tx:
        told = await why.story(tx, sale.booking_id)
        [matter, *_] = [*await matters.listed(tx, resolved_too=True), None]
    async with door.transaction(engine_of["cb_ingress"]) as tx:
        shown = await door.load_payment_view(tx, payment_id)

    assert (shown.status, told.booking.status) == ("refunded", "cancelled")
    states = {(letter.kind, letter.state) for letter in told.letters}
    assert states == {("confirmation", "sent"), ("cancellation", "sent"), ("refund", "suppressed")}
    assert matter is None


async def test_a_month_to_come_is_written_by_who_may_write_the_inbox(engine, engine_of, logins):
    """Whoever prunes makes the coming months; no right upon one of them is needed, and none is given."""
    later = clock.now() + timedelta(days=200)
    async with engine.begin() as tx:
        [name, *_] = await inbox.make_partitions(tx, later)
    async with engine_of["cb_payments"].begin() as tx:
        await rows(tx, "select 1")
        await inbox.write(tx, "payments", [Entry("evt_later", later, "stripe.events", 0, 0)])
        await inbox.write_unlocked(tx, "payments", [Entry("evt_later_2", later, "stripe.events", 0, 1)])
        assert len(await inbox.known(tx, "payments", [(later, "evt_later"), (later, "evt_later_2")])) == 2
    async with connected(logins["cb_payments"]) as connection:
        assert await refusal(connection, f"select * from {name}") == REFUSED


async def test_what_no_role_may_do_is_refused(logins):
    """The past is not rewritten, no table is made or unmade, no password is read."""
    for role, login in logins.items():
        async with connected(login) as connection:
            assert {text: await refusal(connection, text) for text in FOR_NOBODY} == dict.fromkeys(FOR_NOBODY, REFUSED), role


async def test_what_is_another_rooms_work_is_refused(logins):
    """One table, or one column, has one writer."""
    for role, texts in FOR_OTHERS.items():
        async with connected(logins[role]) as connection:
            assert {text: await refusal(connection, text) for text in texts} == dict.fromkeys(texts, REFUSED), role


async def test_an_operator_prunes_nothing_and_the_owner_does(ops, logins):
    """Dropping a month is the work of who owns the table."""
    later = await ops("inbox", "prune", by=logins["cb_operator"])
    done = await ops("inbox", "prune")

    assert (later.exit_code, done.exit_code) == (1, 0)


def sql(result):
    """What a command said, without what it logged."""
    return [line for line in result.stdout.splitlines() if line.startswith("--") or line.endswith(";")]


@asynccontextmanager
async def connected(login):
    connection = await asyncpg.connect(engines.dsn(login))
    try:
        yield connection
    finally:
        await connection.close()


async def refusal(connection, text):
    """The SQLSTATE with which a statement is refused; None when it is not. Nothing of it stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(text)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    finally:
        await transaction.rollback()
    return None


async def is_allowed(connection, text):
    """Whether PostgreSQL would begin this statement for who is asking, whatever its parameters."""
    answer = await refusal(connection, f"explain (generic_plan) {text}")
    assert answer in {None, REFUSED}, (answer, text)
    return answer is None


async def is_missed(connection, texts):
    for text in texts:
        if not await is_allowed(connection, text):
            return True
    return False
