"""Bring a database to the newest shape; running it twice changes nothing.

Enters: the database's settings. Leaves: the names of the migrations that ran now. One migrating process at a time, by a
lock in PostgreSQL itself. Next: `cb-ops migrate` and `cb-dev up` call it.
"""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared import clock, logs, settings
from shared.db import engine as engines
from shared.db import inbox, letter_templates

log = logs.get(__name__)

MIGRATION_LOCK = 0x0CB_0A17
# CultureBridge keeps its own revision in `alembic_version`, Alembic's usual place: there it would pass for a newer one of ours,
# and ours would stop its next migration. Databases that we migrated before we knew are mended.
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

    Whoever goes back to an earlier release finds a newer database: it runs on that, and its older texts are not put over the
    newer ones.
    """
    engine = create_async_engine(engines.DRIVER, poolclass=NullPool, connect_args={"dsn": engines.dsn(database)})
    try:
        async with engine.connect() as lock:
            await lock.exec_driver_sql("select pg_advisory_lock($1)", (MIGRATION_LOCK,))
            async with engine.connect() as connection:
                upgraded: Upgraded = await connection.run_sync(_upgrade)
                await connection.commit()
            async with engine.begin() as tx:
                await inbox.make_partitions(tx, clock.now())
                if upgraded.newer is None:
                    await letter_templates.seed(tx)
            await lock.rollback()
    finally:
        await engine.dispose()
    for revision in upgraded.ran:
        log.info("migration.ran", revision=revision)
    if upgraded.newer is not None:
        log.warning("migration.newer", revision=upgraded.newer)
    return upgraded


def _upgrade(connection: Connection) -> Upgraded:
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
        return Upgraded(newer=current)
    pending = [script.revision for script in scripts.iterate_revisions("head", current)]
    command.upgrade(config, "head")
    return Upgraded(ran=tuple(pending[::-1]))
