"""What our processes ask of PostgreSQL, whatever it was set to for everybody."""

from shared.db import engine as engines
from shared.db.engine import rows


async def test_a_commit_waits_for_the_disk_also_where_the_database_was_told_not_to(engine, database):
    """A crash of PostgreSQL forgets nothing of which Kafka was told that it is done."""
    async with engine.connect() as connection:
        [[name]] = await rows(connection, "select current_database()")
        await rows(connection, f'alter database "{name}" set synchronous_commit = off')
        await connection.commit()

    fresh = engines.create(database, application="test")
    async with fresh.begin() as tx:
        shown = await rows(tx, "show synchronous_commit")
    await fresh.dispose()

    assert [tuple(row) for row in shown] == [("on",)]
