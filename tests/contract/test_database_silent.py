"""PostgreSQL falls silent in the middle of a transaction: its machine stands still, or a firewall has forgotten us."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from ingress import store
from shared import settings
from shared.db import engine as engines
from shared.db import inbox
from shared.db.engine import rows

ENDS_WITHIN_SECONDS = 30  # of which 2 are the driver's, for its goodbye


class Wire:
    """What stands between a client and PostgreSQL, and from `hush` on takes everything and passes nothing on."""

    def __init__(self, host, port):
        self._server_at = host, port
        self._talks = asyncio.Event()
        self._talks.set()

    def hush(self):
        self._talks.clear()

    async def accept(self, reader, writer):
        there, here = await asyncio.open_connection(*self._server_at)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass_on(reader, here))
            both.create_task(self._pass_on(there, writer))

    async def _pass_on(self, reader, writer):
        try:
            while said := await reader.read(65_536):
                await self._talks.wait()
                writer.write(said)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def wired(database):
    """Give an engine whose connections lead over a wire, and the wire."""
    url = make_url(database.database_url.get_secret_value())
    wire = Wire(url.host, url.port)
    async with await asyncio.start_server(wire.accept, "127.0.0.1", 0) as server:
        [[_, port]] = [socket.getsockname() for socket in server.sockets]
        there = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        engine = engines.create(settings.Database(database_url=SecretStr(there)), application="tests")
        try:
            yield engine, wire
        finally:
            wire._talks.set()
            await engine.dispose()


@pytest.mark.parametrize("silent_from", ["BEGIN", "a statement", "COMMIT"])
async def test_the_door_waits_no_longer_than_its_deadline_for_a_database_that_fell_silent(database, monkeypatch, silent_from):
    """Its caller hears 503: neither for the answer, nor for that of the ROLLBACK after it, does anybody wait."""
    monkeypatch.setattr(store, "DEADLINE_SECONDS", 2.0)
    async with wired(database) as (engine, wire):

        def then(step):
            if step == silent_from:
                wire.hush()

        async def asks():
            async with store.transaction(engine) as tx:
                then("BEGIN")
                await rows(tx, "select 1")
                then("a statement")
                await rows(tx, "select 2")
                then("COMMIT")

        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            with pytest.raises(store.DatabaseAway):
                await asks()


ENTRY = inbox.Entry("evt_1", datetime(2026, 10, 1, tzinfo=UTC), "stripe.events", 0, 0)


@pytest.mark.parametrize(
    "cut_off",
    [
        lambda tx: rows(tx, "select 2"),
        lambda tx: inbox.write(tx, "payments", [ENTRY]),
        lambda tx: inbox.write_unlocked(tx, "payments", [ENTRY]),
        engines.begin_again,
    ],
    ids=["a statement", "COPY", "many rows", "another BEGIN"],
)
async def test_what_is_cut_off_while_the_database_is_silent_waits_for_no_rollback(database, cut_off):
    """Whatever was under way: the connection ends with it, since it would not answer a ROLLBACK."""
    async with wired(database) as (engine, wire):

        async def is_cut_off():
            async with engine.begin() as tx:
                await rows(tx, "select 1")
                wire.hush()
                async with asyncio.timeout(0.2):
                    await cut_off(tx)

        running = asyncio.create_task(is_cut_off())
        await asyncio.wait((running,), timeout=ENDS_WITHIN_SECONDS)
        ended = running.done()
        running.cancel()
        with pytest.raises(TimeoutError):
            await running
        assert ended


async def test_who_stops_waiting_leaves_no_transaction_behind(engine):
    """A statement that is cut off by its caller's deadline is over, its locks are free, and the next caller's goes well."""
    async with engine.begin() as tx:
        await rows(tx, "create table places (id int primary key)")
        await rows(tx, "insert into places values (1)")

    async def waits_in_vain():
        async with asyncio.timeout(0.2), engine.begin() as tx:
            await rows(tx, "select id from places for update")
            await rows(tx, "select pg_sleep(600)")

    with pytest.raises(TimeoutError):
        await waits_in_vain()

    async with asyncio.timeout(ENDS_WITHIN_SECONDS), engine.begin() as tx:
        assert [tuple(row) for row in await rows(tx, "select id from places for update")] == [(1,)]
