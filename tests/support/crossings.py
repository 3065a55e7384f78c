"""Two consumers held at every pair of crossings: each stops before the statements that lock, look or write for others.

A crossing is one of those statements, or the commit. A run brings the one consumer to crossing i and the other to j, then
lets either finish first. Whoever waits for the other inside PostgreSQL is seen by `pg_blocking_pids`, not by a clock.
"""

import asyncio
from dataclasses import dataclass

import asyncpg
from sqlalchemy import event
from sqlalchemy.util import await_only

from consumers.payments import store
from shared.db import inbox
from shared.db.engine import rows
from shared.kafka.batch import Batches

CROSSINGS = {
    store.LINKED: "look for links",
    store.LOCK_UNLINKED: "lock keys",
    store.LOCK_PAYMENTS: "lock payments",
    inbox.KNOWN: "read the inbox",
    store.WAITING: "read what waits",
    store.UPDATE_PAYMENTS: "write payments",
    store.INSERT_WAITING: "leave waiting",
}
TO_THE_END = 1_000
PATIENCE_SECONDS = 10


class Told:
    """A producer that remembers."""

    def __init__(self):
        self.records = []

    async def publish(self, records, *, deadline_seconds=5.0):
        self.records += records

    def take(self):
        """Return what was told since the last time."""
        taken, self.records = self.records, []
        return taken


class Rival:
    """One payments consumer on a connection of its own, with a rein."""

    def __init__(self, engine, consumer, monkeypatch):
        self.told = Told()
        self.passed = []
        self.arrived = asyncio.Event()
        self._engine = engine
        self._pid = None
        self._stop_before = TO_THE_END
        self._go = asyncio.Event()
        self.running = None
        self._story = Batches(
            consumer, engine=engine, producer=self.told, group="payments", target="payments.events", refusals="dlt"
        )
        # The first statement of a transaction goes through SQLAlchemy, the others to asyncpg itself.
        event.listen(engine.sync_engine, "before_cursor_execute", self._before)
        fetch = asyncpg.Connection.fetch

        async def statement(raw, sql, *parameters):
            if raw.get_server_pid() == self._pid and sql in CROSSINGS and self._stops(CROSSINGS[sql]):
                await self._go.wait()
            return await fetch(raw, sql, *parameters)

        monkeypatch.setattr(asyncpg.Connection, "fetch", statement)
        event.listen(engine.sync_engine, "commit", lambda _: self._cross("commit"))

    async def connect(self):
        async with self._engine.connect() as connection:
            [(self._pid,)] = await rows(connection, "select pg_backend_pid()")

    def start(self, records, *, stop_before=TO_THE_END):
        """Begin a batch; it stops before that crossing (0 = the first)."""
        self.passed, self._stop_before = [], stop_before
        self.arrived, self._go = asyncio.Event(), asyncio.Event()
        self.running = asyncio.create_task(self._story.handle(records))

    def go(self):
        self._stop_before = TO_THE_END
        self._go.set()

    async def handle(self, records):
        """Take a batch without any rein."""
        self._stop_before = TO_THE_END
        await self._story.handle(records)

    async def settle(self, watcher):
        """Wait until it has stopped, ended, or waits for the other; return which."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                arriving = asyncio.create_task(self.arrived.wait())
                await asyncio.wait({arriving, self.running}, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
                arriving.cancel()
                if self.running.done():
                    await self.running
                    return "ended"
                if self.arrived.is_set() and not self._go.is_set():
                    return "stopped"
                [(blocked,)] = await rows(watcher, "select cardinality(pg_blocking_pids($1)) > 0", self._pid)
                if blocked:
                    return "blocked"

    @property
    def last(self):
        """The crossing before which it stands, or the last that it passed."""
        return self.passed[-1] if self.passed else "nothing"

    def _before(self, _connection, _cursor, statement, _parameters, _context, _many):
        if statement in CROSSINGS:
            self._cross(CROSSINGS[statement])

    def _cross(self, name):
        if self._stops(name):
            await_only(self._go.wait())

    def _stops(self, name):
        self.passed.append(name)
        if len(self.passed) <= self._stop_before:
            return False
        self.arrived.set()
        return True


@dataclass(frozen=True)
class Crossed:
    """One run: who began, where each stood when the first was let go, and who that was."""

    began: Rival
    began_at: str
    joined_at: str
    ended: Rival


async def every_crossing(one, two, between, watcher, batches):
    """Yield every run of the two, each time on fresh batches: `batches()` returns theirs and that of `between`.

    `between` takes its batch, without a rein, when the one has stopped and before the other begins. Each pair of crossings
    is run four times, since it matters too who begins and who ends first. A crossing that the second cannot reach, because
    it waits for the first, ends its row; then only the first can go on, and where the first has ended, nobody is left to cross.
    """
    for began, joined in ((one, two), (two, one)):
        i, at = 0, "stopped"
        while at == "stopped":
            j, joined_at = 0, "stopped"
            while joined_at == "stopped":
                for first in (began, joined):
                    records = dict(zip((one, two, between), await batches(), strict=True))
                    began.start(records[began], stop_before=i)
                    at = await began.settle(watcher)
                    between.start(records[between])
                    await between.settle(watcher)
                    joined.start(records[joined], stop_before=j if at == "stopped" else TO_THE_END)
                    joined_at = await joined.settle(watcher)
                    where = began.last, joined.last
                    first.go()
                    await first.settle(watcher)
                    await all_end(one, two, between)
                    yield Crossed(began, *where, first)
                    if joined_at != "stopped":
                        break
                j += 1
            i += 1


async def all_end(*rivals):
    """Let everybody finish. Raises what a batch raised: a deadlock, or TimeoutError when one waits for ever."""
    for rival in rivals:
        rival.go()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(rival.running for rival in rivals))
