"""Databases that a worker's tests hand on: each gets one that is as the template, and most leave it as easy to empty.

To copy the template and drop the copy costs PostgreSQL ten times what it costs to delete a test's rows. So a database that a
test gives back is emptied for the next one, when nothing but rows of our tables has changed: catalogs, settings, statistics
and the rows that the template has are as they were, and no table has grown to more pages than the planner takes an unknown one
for. Whatever else a test did, its database is dropped, and the next test gets a copy. Next: conftest.py lends them.
"""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

SECONDS_MAX = 60
PAGES_MAX = 10  # PostgreSQL takes a table that was never analysed for one of ten pages, if it has no more
PAGE_BYTES = 8192
# Other sessions of this database, which end as they would by a drop: how many did not?
END_OTHERS = """
select count(*) filter (where not pg_terminate_backend(pid, 5000))
from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
"""
TABLES = "select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
SEQUENCES = "select oid::regclass::text from pg_class where relkind = 'S'"
# What is the same as long as nothing but rows of our tables changes. PostgreSQL counts what a session has written, also into
# its catalogs, and has all counts by the time that the session is gone. {kept} are the tables in which the template has rows.
SHAPE = f"""
select
  (select sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid))
   from pg_class where relkind = 'r' and (relnamespace = 'pg_catalog'::regnamespace and not relisshared or oid in ({{kept}}))),
  (select sum(relpages + reltuples) from pg_class where relnamespace = 'public'::regnamespace),
  (select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')
     and pg_relation_size(oid) > {PAGES_MAX * PAGE_BYTES}),
  (select count(*) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where datname = current_database()),
  (select datacl::text || datconnlimit from pg_database where datname = current_database())
"""


@dataclass(frozen=True)
class Lent:
    """A database, and our own session in it."""

    name: str
    session: asyncpg.Connection


@dataclass(frozen=True)
class Template:
    """What is asked of a copy after a test, what a copy answers that nobody has touched but for rows, and what empties it."""

    asked: str
    untouched: tuple
    emptying: str


class Pool:
    """One worker's databases, made from the template; our sessions run on a loop of their own, between tests."""

    def __init__(self, server, template):
        self._server, self._name = server, template
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._administrator = self._template = None
        self._made, self._ready = [], []

    def take(self):
        """Return a database that is as the template."""
        return self._ready.pop() if self._ready else self._run(self._copy())

    def give_back(self, lent):
        """Empty it for the next test, or drop it."""
        if self._run(self._is_emptied(lent)):
            self._ready.append(lent)
        else:
            self._run(self._drop(lent))

    def close(self):
        """Drop what is left, given back or not."""
        for lent in [*self._made]:
            self._run(self._drop(lent))
        if self._administrator is not None:
            self._run(self._administrator.close())
        self._runner.close()

    def _run(self, doing):
        return self._runner.run(asyncio.wait_for(doing, SECONDS_MAX))

    async def _administration(self):
        if self._administrator is None or self._administrator.is_closed():
            self._administrator = await asyncpg.connect(f"{self._server}/postgres")
        return self._administrator

    async def _copy(self):
        administration, name = await self._administration(), f"t_{uuid.uuid4().hex}"
        await administration.execute(f"create database {name} template {self._name} strategy file_copy")
        # Its deletes ask no foreign key and wake no trigger.
        session = await asyncpg.connect(f"{self._server}/{name}", server_settings={"session_replication_role": "replica"})
        made = Lent(name, session)
        self._made.append(made)
        if self._template is None:
            self._template = await _template(made)
        return made

    async def _is_emptied(self, lent):
        # A test may have ended our session, too.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            if (
                await lent.session.fetchval(END_OTHERS) == 0
                and await _shape(lent, self._template.asked) == self._template.untouched
            ):
                await lent.session.execute(self._template.emptying)
                return True
        return False

    async def _drop(self, lent):
        self._made.remove(lent)
        lent.session.terminate()
        administration = await self._administration()
        await administration.execute(f"drop database if exists {lent.name} with (force)")


async def _template(copy):
    tables, sequences = [[name for (name,) in await copy.session.fetch(sql)] for sql in (TABLES, SEQUENCES)]
    given = [table for table in tables if await copy.session.fetchval(f"select exists (select from {table})")]
    asked = SHAPE.format(kept=", ".join(f"'{table}'::regclass" for table in given))
    emptying = [f"delete from {table}" for table in tables if table not in given]
    emptying += [f"select setval('{sequence}', 1, false)" for sequence in sequences]
    return Template(asked, await _shape(copy, asked), ";".join(emptying))


async def _shape(lent, asked):
    return tuple(await lent.session.fetchrow(asked))
