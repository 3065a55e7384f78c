"""`cb-ops migrate` while the pipeline works: nobody stands still behind it, and no end of it leaves anything half done."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from typer.testing import CliRunner

from deploy.ops.cli import app
from shared import settings
from shared.db import engine as engines
from shared.db import migrate, migrations
from shared.db.engine import rows
from tests.journey.pipeline import ROOT
from tests.support.waiting import until

FOLDER = Path(migrations.__file__).parent
OLDER = "0006"  # from here two migrations touch tables that its release's processes are writing to
REVISION = f"select version_num from {migrate.VERSION_TABLE}"
INDEX = "select indisvalid from pg_index where indexrelid = to_regclass('payments_with_people')"
WORKING = "select pid, query from pg_stat_activity where datname = current_database() and state = 'active' and query ~ $1"
WAITING = WORKING + " and wait_event_type = 'Lock'"
WAITING_OUTSIDE = """
select pid from pg_stat_activity
where datname = current_database() and application_name = 'culturebridge-migrate' and state = 'idle'
"""
NEWER = tuple(sorted(name for file in FOLDER.glob("versions/0*.py") if (name := file.name[:4]) > OLDER))
READING_THE_LEDGER = "select count(*) from payment_ledger"
WRITING_PAYMENTS = "update payments set version = version where false"
LEDGER_LINE = """
insert into payment_ledger (event_id, event_type, decision, topic, "partition", "offset") values ('evt_1', 'x', 'y', 'z', 0, 0)
"""


@pytest.fixture
def database(empty_database):
    """Of one that this release has migrated, every later migration would have to be undone by hand."""
    return empty_database


@pytest.fixture
async def older(engine):
    """The engine of a database that an older release works on."""
    async with engine.connect() as connection:
        await connection.run_sync(_as_older)
    return engine


def _as_older(sync):
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes |= {"connection": sync, "version_table": migrate.VERSION_TABLE}
    command.upgrade(config, OLDER)


@pytest.fixture
def hasty(monkeypatch):
    """A migration whose wishes are short, so that a test need not wait for seconds."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "set lock_timeout = '30ms'")
    monkeypatch.setattr(migrate, "LOCK_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(migrate, "LOOK_AGAIN_SECONDS", 0.02)


@asynccontextmanager
async def held(engine, statement):
    """Somebody's transaction that has asked this, and ends when the block says so: a report, a backup, a forgotten session."""
    async with engine.connect() as somebody:
        await rows(somebody, statement)
        yield somebody.rollback


async def asked(engine, sql, *parameters):
    async with engine.begin() as tx:
        return [tuple(row) for row in await rows(tx, sql, *parameters)]


@asynccontextmanager
async def migrating(database):
    """A migration that runs beside the test."""
    task = asyncio.create_task(migrate.upgrade(database))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, *engines.TROUBLE):
            await task


@asynccontextmanager
async def begun(database):
    """`cb-ops migrate` as a process, which may be killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.ops", "migrate"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database.database_url.get_secret_value()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.usefixtures("hasty")
async def test_a_table_that_somebody_reads_is_asked_for_again_and_again(database, older):
    """Who writes to it comes through between two wishes; once the reader is gone, the migration is done."""
    async with held(older, READING_THE_LEDGER) as let_go, migrating(database) as migration:
        await until(lambda: asked(older, WAITING, "^alter table payment_ledger"), "the migration waits for the ledger")
        async with asyncio.timeout(5):
            await asked(older, LEDGER_LINE)
        assert not migration.done()

        await let_go()

        assert (await migration).ran == NEWER


@pytest.mark.usefixtures("hasty")
async def test_a_table_that_somebody_holds_for_good_is_given_up(database, older, monkeypatch):
    """It says so, the last release works on, and another run begins where this one ended."""
    monkeypatch.setattr(migrate, "LOCK_TRIES_MAX", 2)
    environment = {"DATABASE_URL": database.database_url.get_secret_value()}
    async with held(older, READING_THE_LEDGER):
        given_up = await asyncio.to_thread(CliRunner().invoke, app, ["migrate"], env=environment)

    assert given_up.exit_code == 1
    assert given_up.stderr.endswith("somebody holds a table for too long; what was done stands, run it again\n")
    assert await asked(older, REVISION) == [("0006",)]
    assert (await migrate.upgrade(database)).ran == NEWER


@pytest.mark.parametrize("clock", ["statement_timeout", "transaction_timeout"])
async def test_an_index_is_built_while_everybody_writes(database, older, clock):
    """It waits for who writes now, and who comes later does not wait for it; neither lets it end by a clock of the server's."""
    hurried = settings.Database(database_url=f"{database.database_url.get_secret_value()}?{clock}=500ms")
    async with held(older, WRITING_PAYMENTS) as let_go, migrating(hurried) as migration:
        await until(lambda: asked(older, WAITING, "^create index concurrently"), "the build waits for who writes")
        async with asyncio.timeout(5):
            await asked(older, WRITING_PAYMENTS)
            await asked(older, "select pg_sleep(0.6)")
        assert not migration.done()

        await let_go()

        assert (await migration).ran == NEWER
    assert await asked(older, INDEX) == [(True,)]


@pytest.mark.usefixtures("hasty")
async def test_a_second_migration_waits_outside_of_any_statement(database, older):
    """Inside of one it would stand in the way of the first one's build, and that in its way."""
    async with held(older, WRITING_PAYMENTS) as let_go, migrating(database) as first, migrating(database) as second:
        await until(lambda: asked(older, WAITING, "^create index concurrently"), "the build waits for who writes")
        await until(lambda: asked(older, WAITING_OUTSIDE), "the other one waits")

        await let_go()

        async with asyncio.timeout(20):
            ran = [upgraded.ran for upgraded in await asyncio.gather(first, second)]
    assert sorted(ran) == [(), NEWER]


async def test_what_a_killed_migration_left_is_done_anew(database, older):
    """Its statement ends within seconds, though nobody told the server; the next run mends the index that it left."""
    async with held(older, WRITING_PAYMENTS):
        async with begun(database) as process:
            await until(lambda: asked(older, WAITING, "^create index concurrently"), "the build waits for who writes")
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await until(lambda: nobody(older), "the killed one's statement has ended")
    assert await asked(older, INDEX) == [(False,)]

    assert (await migrate.upgrade(database)).ran == NEWER[1:]

    assert await asked(older, INDEX) == [(True,)]


async def test_why_a_connection_ended_within_a_build_is_told(database, older):
    """And not what Alembic then finds, that the connection is of no use any more."""
    async with held(older, WRITING_PAYMENTS), migrating(database) as migration:
        await until(lambda: asked(older, WAITING, "^create index concurrently"), "the build waits for who writes")
        await asked(older, "select pg_terminate_backend(pid) from (" + WAITING + ") of_it", "^create index concurrently")

        with pytest.raises(engines.TROUBLE, match="terminating connection"):
            await migration


async def nobody(engine):
    return not await asked(engine, WORKING, "^create index concurrently")
