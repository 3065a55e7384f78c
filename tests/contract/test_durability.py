"""What our processes ask of PostgreSQL, whatever it was set to for everybody."""

import asyncio
import socket
import sys

import asyncpg
import pytest

from deploy.dev.services import database as postgresql
from deploy.dev.services.stack import Services
from shared import settings
from shared.db import engine as engines
from shared.db import health
from shared.db.engine import rows
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("setting", "theirs", "ours"),
    [
        # A crash of PostgreSQL forgets nothing of which Kafka was told that it is done.
        ("synchronous_commit", "off", "on"),
        # Of an event that another process has just taken, an older snapshot would say that nobody has.
        ("default_transaction_isolation", "'repeatable read'", "read committed"),
        # Who freezes in a transaction gives its locks back.
        ("idle_in_transaction_session_timeout", "0", "30s"),
    ],
)
async def test_a_setting_that_we_stand_on_is_ours_whatever_the_database_was_told(engine, database, setting, theirs, ours):
    await for_everybody(engine, setting, theirs)

    fresh = engines.create(database, application="test")
    async with fresh.begin() as tx:
        shown = await rows(tx, f"show {setting}")
    await fresh.dispose()

    assert [tuple(row) for row in shown] == [(ours,)]


async def test_who_falls_silent_in_a_transaction_holds_nobody_up_for_ever(engine, database, monkeypatch):
    """A process that was frozen, or whose machine is gone: the rows that it locked are free again."""
    monkeypatch.setattr(engines, "IDLE_IN_TRANSACTION_MS", 300)
    frozen = engines.create(database, application="frozen")
    async with engine.begin() as tx:
        await rows(tx, "create table places (id int primary key)")
        await rows(tx, "insert into places values (1)")

    silent = await frozen.connect()
    try:
        await rows(silent, "select 1 from places for update")
        async with asyncio.timeout(20), engine.begin() as tx:
            taken = await rows(tx, "select id from places for update")
        with pytest.raises(engines.TROUBLE):
            await rows(silent, "select 1")
    finally:
        await silent.invalidate()
        await frozen.dispose()

    assert [tuple(row) for row in taken] == [(1,)]


async def test_a_connection_that_the_server_ended_is_nobody_s(engine):
    """A restart, or an idle_session_timeout: who asks next meets no error of a connection that was closed while it was idle."""
    async with engine.connect() as first, engine.connect() as second:
        pids = [(await rows(one, "select pg_backend_pid()"))[0][0] for one in (first, second)]
        idle = [engines.driver(one) for one in (first, second)]
    async with engine.connect() as other:
        # One of the two asks; it ends the other.
        [[mine]] = await rows(other, "select pg_backend_pid()")
        await rows(other, "select pg_terminate_backend(pid) from unnest($1::int[]) pid where pid <> $2", pids, mine)
    await until(lambda: any(one.is_closed() for one in idle), "the server has ended one")

    for _ in pids:
        async with engine.connect() as asking:
            assert await rows(asking, "select 1") == [(1,)]


async def test_a_database_that_takes_no_writes_is_trouble(engine, database):
    """It answers all the same: readiness would be well, and every batch come back."""
    await for_everybody(engine, "default_transaction_read_only", "on")
    fresh = engines.create(database, application="test")

    trouble = await health.trouble(fresh)()
    await fresh.dispose()

    assert trouble == ["database: it takes no writes"]


class DatabaseAlone(Services):
    """A PostgreSQL of one test's own: no broker beside it."""

    def bring_up(self):
        self.start_database()

    def environment(self):
        return {}


@pytest.fixture
def standby(tmp_path):
    """A hot standby without a primary: settings that lead to it."""
    own = DatabaseAlone(tmp_path, durable=False)
    own.start()
    try:
        own.database.stop()
        (postgresql.folder(own.box) / "data" / "standby.signal").touch()
        own.database.spawn()
        yield settings.Database(database_url=postgresql.url(own.ports["database"]))
    finally:
        own.stop()
        postgresql.remove(own.box)


async def test_a_standby_is_no_database_of_ours_until_it_is_promoted(standby):
    """After a failover the name may lead to one for a while: the connection would live for long, and no write succeed."""
    engine = engines.create(standby, application="test")
    trouble = health.trouble(engine)

    async def says(reasons):
        return await trouble() == reasons

    await until(lambda: says(["database: TargetServerAttributeNotMatched"]), "it is refused")
    url = standby.database_url.get_secret_value().replace("+asyncpg", "")
    operator = await asyncpg.connect(url)
    await operator.execute("select pg_promote()")
    await operator.close()
    await until(lambda: says([]), "it is taken")
    await engine.dispose()


async def for_everybody(engine, setting, value):
    """Set it for the test's database, as its owner may have."""
    async with engine.connect() as connection:
        [[name]] = await rows(connection, "select current_database()")
        await rows(connection, f'alter database "{name}" set {setting} = {value}')
        await connection.commit()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other names for it")
async def test_a_server_that_is_gone_without_a_goodbye_is_noticed_by_the_system(engine):
    """Within twenty seconds, where its own defaults would let a batch wait for a quarter of an hour."""
    async with engine.connect() as connection:
        await rows(connection, "select 1")
        wire = engines.driver(connection)._transport.get_extra_info("socket")
        kept = wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, every, probes, unanswered_ms = (
            wire.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        )

    assert (kept, idle + every * probes, unanswered_ms) == (1, 20, 20_000)
