"""Migrates a database to the newest schema; running it twice changes nothing.

Enters: the database's settings. Leaves: the names of the migrations that ran now. One process migrates at a time, by a lock in
PostgreSQL itself. The pipeline goes on meanwhile: statements on a table wait behind our request for its lock, so each request
is short, and repeated. Next: `cb-ops migrate` and `cb-dev up` call it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from shared import clock, logs, settings
from shared.db import engine as engines
from shared.db import inbox, letter_templates

log = logs.get(__name__)

Result = TypeVar("Result")

MIGRATION_LOCK = 0x0CB_0A17
LOOK_AGAIN_SECONDS = 1.0  # while another process migrates
LOCK_ASKED_AGAIN = {"55P03", "40P01"}  # SQLSTATE: lock_not_available, deadlock_detected
LOCK_TRIES_MAX = 10
LOCK_PAUSE_SECONDS = 5.0  # statements that waited behind our request are done by then
# Shorter than a call of the door waits for its answer (5 s), longer than PostgreSQL leaves an autovacuum in our way (1 s).
LOCK_TIMEOUT = "set lock_timeout = '3s'"
# Timeouts that an operator or a host sets for all sessions would stop a build of minutes; PostgreSQL has the second from 17 on.
# A statement ends when its client was killed.
# New tables are made in the schema of CultureBridge's tables, whichever schema is the default: elsewhere an empty table of the
# same name would hide the one that has the bookings.
SESSION = (
    "set application_name = 'culturebridge-migrate'",
    "select set_config(name, '0', false) from pg_settings where name in ('statement_timeout', 'transaction_timeout')",
    "set client_connection_check_interval = '2s'",
    """
    select set_config('search_path', relnamespace::regnamespace::text || ', ' || current_setting('search_path'), false)
    from pg_class where oid = to_regclass('payments')
    """,
)
# CultureBridge keeps its own revision in `alembic_version`, Alembic's default: in that table its revision would count as a
# newer one of ours, and ours would stop its next migration. Databases that an early release of ours migrated there are
# corrected.
VERSION_TABLE = "payments_alembic_version"
LEFT_IN_THE_USUAL_PLACE = f"""
select to_regclass('payment_ledger') is not null and to_regclass('alembic_version') is not null
   and to_regclass('{VERSION_TABLE}') is null
"""
MAKE_VERSION_TABLE = f"create table {VERSION_TABLE} (version_num varchar(32) constraint {VERSION_TABLE}_pkc primary key)"
MOVE_REVISION = f"""
with moved as (delete from alembic_version where version_num = any($1::text[]) returning version_num)
insert into {VERSION_TABLE} select version_num from moved
"""  # noqa: S608 - a name of ours


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What became of a database: the revisions that ran, or the one of a newer release in which it was found."""

    ran: tuple[str, ...] = ()
    newer: str | None = None


async def upgrade(database: settings.Database) -> Upgraded:
    """Run what is pending, make the inbox's coming partitions, put the release's templates.

    After a rollback to an earlier release the database may be a newer one: the release runs on it, and does not put its older
    templates over the newer ones. If no migration lies between the two, nothing shows which is older: letters use the templates
    of the release that migrated last. Raises one of engine.TROUBLE, also when others held a table through all tries; migrations
    that had run stay.
    """
    reached = {"dsn": engines.dsn(database), "timeout": engines.CONNECT_TIMEOUT_SECONDS}
    engine = create_async_engine(engines.DRIVER, poolclass=NullPool, connect_args=reached)
    try:
        # The lock belongs to the connection that migrates: it lasts for as long as a statement of a killed process does.
        async with engine.connect() as connection:
            for setting in SESSION:
                await connection.exec_driver_sql(setting)
            await _until_alone(connection)
            ran: list[str] = []
            newer = await _with_patience(connection, lambda: connection.run_sync(_upgrade, ran))
            await _with_patience(connection, lambda: inbox.make_partitions(connection, clock.now()))
            if newer is None:
                await letter_templates.seed(connection)
            await connection.commit()
    finally:
        await engine.dispose()
    if newer is not None:
        log.warning("migration.newer", revision=newer)
    return Upgraded(tuple(ran), newer)


async def _until_alone(connection: AsyncConnection) -> None:
    """Wait until no other process migrates. Between two looks no statement runs: a concurrent build would wait for its end."""
    attempt = 1
    while not (await connection.exec_driver_sql("select pg_try_advisory_lock($1)", (MIGRATION_LOCK,))).scalar_one():
        await connection.commit()
        if attempt == 1:
            log.info("migration.another_runs")
        attempt += 1
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    await connection.commit()


async def _with_patience(connection: AsyncConnection, step: Callable[[], Awaitable[Result]]) -> Result:
    """Run a step that may be repeated; while others hold a lock that it needs, roll back and let their statements through."""
    for attempt in range(1, LOCK_TRIES_MAX + 1):
        try:
            taken = await step()
        except PendingRollbackError as error:
            # The connection ended within a concurrent build; the error's context says why.
            raise error.__context__ or error  # noqa: B904 - it is the cause, and no consequence
        except engines.TROUBLE as error:
            await connection.rollback()
            if engines.sqlstate(error) not in LOCK_ASKED_AGAIN or attempt == LOCK_TRIES_MAX:
                raise
            log.warning("migration.table_held", attempt=attempt, seconds=LOCK_PAUSE_SECONDS)
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        else:
            await connection.commit()
            return taken
    raise AssertionError("the last try returns or raises")


def _upgrade(connection: Connection, ran: list[str]) -> str | None:
    """Run what is pending, one after the other, and add it to `ran`; return the revision of a database that is newer."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    scripts = ScriptDirectory.from_config(config)
    ours = [script.revision for script in scripts.walk_revisions()]
    if connection.exec_driver_sql(LEFT_IN_THE_USUAL_PLACE).scalar_one():
        connection.exec_driver_sql(MAKE_VERSION_TABLE)
        connection.exec_driver_sql(MOVE_REVISION, (ours,))
        connection.commit()
    current = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    connection.rollback()
    if current is not None and current not in ours:
        return current
    pending = [script.revision for script in scripts.iterate_revisions("head", current)]
    for revision in reversed(pending):
        connection.exec_driver_sql(LOCK_TIMEOUT)
        connection.commit()
        command.upgrade(config, revision)
        ran.append(revision)
        log.info("migration.ran", revision=revision)
    return None
