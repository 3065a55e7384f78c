"""What one test did to its database never reaches the next (`tests/support/pool.py`)."""

import asyncio

import asyncpg
import pytest

from tests.conftest import TEMPLATE, server
from tests.support.pool import Pool

HERE = "do $$ begin execute format('alter database %I set work_mem = 1024', current_database()); end $$"
MORE_THAN_ROWS = {
    "a table more": "create table more ()",
    "a table less": "drop table disputes",
    "a column less": "alter table users drop column email",
    "a constraint less": "alter table payments alter booking_id drop not null",
    "a table put aside and back": "alter table payments rename to aside; alter table aside rename to payments",
    "a function": "create function f() returns int language sql as 'select 1'",
    "a right": "grant select on payments to public",
    "a right on the database": HERE.replace("alter database %I set work_mem = 1024", "grant create on database %I to public"),
    "a setting": HERE,
    "statistics": "insert into users values (gen_random_uuid(), 'e', 'x', 'client'); analyze users",
    "statistics of nothing": "analyze payments",
    "a template's row": "update letter_templates set source = source",
    "a template's row less": "delete from letter_templates",
    "many pages": "insert into users select gen_random_uuid(), n::text, 'x', 'client' from generate_series(1, 3000) n",
    "our session ended": "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()",
}
WRITTEN = "select (select count(*) from users), s.last_value, s.is_called from payment_ledger_id_seq s"


@pytest.fixture
def pool():
    made = Pool(server().replace("+asyncpg", ""), TEMPLATE)
    yield made
    made.close()


def do(lent, sql):
    """Run it in a session of its own, as a test does; return the one value of its last row."""

    async def done():
        session = await asyncpg.connect(f"{server().replace('+asyncpg', '')}/{lent.name}")
        try:
            await session.execute(sql)
            return await session.fetchrow(WRITTEN)
        finally:
            await session.close()

    return asyncio.run(done())


def test_rows_are_deleted_and_numbers_begin_anew(pool):
    """Rows are what most tests leave: the next has the same database, as nobody had written to it."""
    lent = pool.take()
    untouched = do(lent, "select")
    do(lent, "insert into users values (gen_random_uuid(), 'e', 'x', 'client'); select nextval('payment_ledger_id_seq')")
    pool.give_back(lent)

    assert pool.take() is lent
    assert do(lent, "select") == untouched


@pytest.mark.parametrize("change", MORE_THAN_ROWS)
def test_what_is_more_than_rows_ends_a_database(pool, change):
    """Whoever comes next has a copy of the template."""
    lent = pool.take()
    do(lent, MORE_THAN_ROWS[change])
    pool.give_back(lent)

    assert pool.take().name != lent.name


def test_a_session_that_a_test_forgot_is_ended(pool):
    """It could hold a lock, or write into the next test."""
    lent = pool.take()

    async def forgotten():
        session = await asyncpg.connect(f"{server().replace('+asyncpg', '')}/{lent.name}")
        await session.execute("begin; lock table payments")
        await asyncio.to_thread(pool.give_back, lent)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await session.execute("select 1")

    asyncio.run(forgotten())
    assert pool.take() is lent
