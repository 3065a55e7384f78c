"""Joining a database that exists, and being run twice."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from typer.testing import CliRunner

from deploy.ops.cli import app
from shared import clock
from shared.db import engine as engines
from shared.db import inbox, migrate, tables
from shared.db.engine import rows
from shared.db.migrations import versions

WHERE_TABLES_ARE = """
select distinct relnamespace::regnamespace::text from pg_class
where relkind in ('r', 'p') and relnamespace::regnamespace::text in ('public', 'culturebridge')
"""


@pytest.fixture
async def empty(empty_database):
    made = engines.create(empty_database, application="tests")
    yield made
    await made.dispose()


async def test_the_migrations_make_the_tables_that_the_code_believes_in(engine):
    """tables.py and the migrations tell the same story."""
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(
                    sync,
                    opts={"include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("inbox_")},
                ),
                tables.metadata,
            )
        )

    ours = [d for d in differences if not (isinstance(d, tuple) and d[0] in {"remove_index", "remove_table"})]
    assert ours == []


async def test_running_the_migrations_twice_changes_nothing(empty_database):
    """`cb-ops migrate` belongs in every deployment."""
    first = await migrate.upgrade(empty_database)
    second = await migrate.upgrade(empty_database)

    assert first.ran == tuple(sorted(file.name[:4] for file in Path(versions.__file__).parent.glob("0*.py")))
    assert second == migrate.Upgraded()


async def test_an_older_release_leaves_a_newer_database_as_it_is(database, engine):
    """Whoever goes back runs `cb-ops migrate`, too: it is no failure, and what letters say by now stays."""
    texts = "select version, name, source from letter_templates order by version, name"
    async with engine.begin() as tx:
        await rows(tx, f"update {migrate.VERSION_TABLE} set version_num = '9999'")
        await rows(tx, "update letter_templates set source = source || ' (newer)' where name = 'layout.html'")
        newer = await rows(tx, texts)

    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["migrate"], env={"DATABASE_URL": database.database_url.get_secret_value()}
    )

    assert result.exit_code == 0
    assert result.stdout.endswith("left as it is: the database is of a newer release (9999)\n")
    async with engine.begin() as tx:
        assert await rows(tx, f"select version_num from {migrate.VERSION_TABLE}") == [("9999",)]
        assert await rows(tx, texts) == newer


async def test_rows_of_the_older_application_stay_as_they_are(empty_database, empty):
    """A row with only the nine older columns is valid; a paid one is paid; of twins one stays open."""
    async with empty.begin() as tx:
        await tx.run_sync(_make_older_tables)
        await _seed_older_rows(tx)

    await migrate.upgrade(empty_database)

    async with empty.begin() as tx:
        found = await rows(
            tx, "select id::text, status::text, amount_minor, closed_at is null, version from payments order by id"
        )
        seeded = await rows(tx, "select payment_id::text, version, paid, cancel_due from booking_payments order by 1")
    assert [tuple(row) for row in found] == [
        (uid(1), "succeeded", None, True, 0),
        (uid(2), "pending", None, False, 0),
        (uid(3), "refunded", None, False, 0),
        (uid(4), "pending", None, True, 0),
    ]
    assert [tuple(row) for row in seeded] == [(uid(1), 0, True, False), (uid(3), 0, True, True)]


async def test_culturebridge_and_we_keep_a_revision_each(empty_database, empty):
    """Its own stands in `alembic_version`: neither taken for ours nor overwritten, or its next migration fails."""
    async with empty.begin() as tx:
        await tx.run_sync(_make_older_tables)
        await rows(tx, "create table alembic_version (version_num varchar(32) primary key)")
        await rows(tx, "insert into alembic_version values ('001')")

    first, second = await migrate.upgrade(empty_database), await migrate.upgrade(empty_database)

    assert (first.newer, second) == (None, migrate.Upgraded())
    async with empty.begin() as tx:
        assert await rows(tx, "select version_num from alembic_version") == [("001",)]
        assert await rows(tx, "select count(*) from payment_ledger") == [(0,)]


async def test_culturebridges_tables_are_joined_in_whichever_schema_they_are(empty_database, empty):
    """Made anew where new tables come to, an empty `bookings` would hide the one that has the bookings."""
    name = empty_database.database_url.get_secret_value().rpartition("/")[2]
    async with empty.begin() as tx:
        await rows(tx, "create schema culturebridge")
        await rows(tx, "set local search_path = culturebridge")
        await tx.run_sync(_make_older_tables)
        await rows(tx, f"alter database {name} set search_path = public, culturebridge")

    await migrate.upgrade(empty_database)
    later = engines.create(empty_database, application="tests")
    async with later.begin() as tx:
        await inbox.make_partitions(tx, clock.now() + timedelta(days=100))
    await later.dispose()

    async with empty.begin() as tx:
        assert await rows(tx, WHERE_TABLES_ARE) == [("culturebridge",)]


async def test_a_revision_that_we_left_in_the_usual_place_is_moved(database, engine):
    """A database that was migrated before goes on as it is, and CultureBridge's own migrations find their table free."""
    async with engine.begin() as tx:
        newest = await rows(tx, f"select version_num from {migrate.VERSION_TABLE}")
        await rows(tx, f"alter table {migrate.VERSION_TABLE} rename to alembic_version")
        await rows(tx, f"alter index {migrate.VERSION_TABLE}_pkc rename to alembic_version_pkc")

    assert await migrate.upgrade(database) == migrate.Upgraded()

    async with engine.begin() as tx:
        assert await rows(tx, f"select version_num from {migrate.VERSION_TABLE}") == newest
        assert await rows(tx, "select version_num from alembic_version") == []


async def test_an_older_table_is_never_rewritten(empty_database, empty):
    """Rewriting a large table would stop CultureBridge: the file stays the same."""
    async with empty.begin() as tx:
        await tx.run_sync(_make_older_tables)
        before = await rows(tx, "select pg_relation_filenode('payments')")

    await migrate.upgrade(empty_database)

    async with empty.begin() as tx:
        after = await rows(tx, "select pg_relation_filenode('payments')")
    assert before == after


def uid(number):
    return f"00000000-0000-4000-8000-{number:012d}"


def _make_older_tables(sync):
    older = sa.MetaData()
    for table in tables.OLDER:
        copied = table.to_metadata(older)
        if table.name == "payments":
            for column in tables.PAYMENT_ADDITIONS:
                copied._columns.remove(copied.c[column.name])
    older.create_all(sync)


async def _seed_older_rows(tx):
    await tx.exec_driver_sql(
        "insert into users (id, email, password_hash, role) values ($1, 'c@example.com', 'x', 'client')", (uid(100),)
    )
    for number in (10, 11, 12):
        await tx.exec_driver_sql(
            "insert into bookings (id, client_id, coach_id, session_datetime) values ($1, $2, $2, now())",
            (uid(number), uid(100)),
        )
    for number, booking, status, age in (
        (1, 10, "succeeded", 2),
        (2, 10, "pending", 1),
        (3, 11, "refunded", 1),
        (4, 12, "pending", 1),
    ):
        await tx.exec_driver_sql(
            "insert into payments (id, booking_id, amount, status, created_at) "
            "values ($1, $2, 75.00, $3::text::paymentstatus, now() - make_interval(days => $4))",
            (uid(number), uid(booking), status, age),
        )
