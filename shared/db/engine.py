"""The one way to reach PostgreSQL: SQLAlchemy's pool and transactions, asyncpg's statements.

Stores write SQL with asyncpg's own `$1` and run it on asyncpg directly: through SQLAlchemy a statement takes nearly three times
as long, and a batch of eight events has a dozen of them.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event, make_url
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared import settings

STATEMENT_TIMEOUT_MS = 30_000  # a statement of ours takes milliseconds; one that waits this long holds others up
# A transaction of ours sends its next statement within milliseconds. A client that is silent for this long is frozen, or
# vanished without closing: the server would keep its locks for two hours, and all others would wait for those rows.
IDLE_IN_TRANSACTION_MS = 30_000
CONNECT_TIMEOUT_SECONDS = 5
# A server that vanished without closing (its machine lost power, a firewall dropped the connection) is given up by the system
# after so many seconds, whether a statement is under way or not; by the system's own defaults after a quarter of an hour, or
# after two hours.
PEER_GONE_SECONDS = 20
PROBE_EVERY_SECONDS = 5
PROBES = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": PROBE_EVERY_SECONDS,
        "TCP_KEEPINTVL": PROBE_EVERY_SECONDS,
        "TCP_KEEPCNT": PEER_GONE_SECONDS // PROBE_EVERY_SECONDS - 1,
        "TCP_USER_TIMEOUT": PEER_GONE_SECONDS * 1000,
    }.items()
    if hasattr(socket, name)  # macOS has other names for some
}
# asyncpg reads the address itself (`dsn`), since it follows libpq in sslmode and the rest: SQLAlchemy would pass these on as
# arguments, which asyncpg does not have (sqlalchemy issue 6275).
DRIVER = "postgresql+asyncpg://"

# What a transaction raises while PostgreSQL is away or refuses: asyncpg's errors, and SQLAlchemy's when it begins and ends one.
# asyncpg raises InternalClientError for a statement between the server's last message on a connection and its end.
TROUBLE = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


def create(database: settings.Database, *, application: str, pool_size: int = 5) -> AsyncEngine:
    """Return an engine whose connections have the name of `application`; nothing is connected yet.

    Raises nothing now; its connections raise one of TROUBLE when PostgreSQL is away or refuses them.
    """
    engine = create_async_engine(
        DRIVER,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=False,
        pool_recycle=1800,
        connect_args={
            "dsn": dsn(database),
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "server_settings": {
                "application_name": f"culturebridge-{application}",
                "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
                "timezone": "UTC",
                # Offsets are committed, and Stripe is called, after the commit: if this database or role is set not to wait for
                # the disk, a crash would lose what nobody sends again.
                "synchronous_commit": "on",
                # A read of the inbox under a lock must see what the lock's last holder wrote.
                "default_transaction_isolation": "read committed",
                # A plan that was cached while a table was empty reads the whole table, until the table is analyzed.
                "plan_cache_mode": "force_custom_plan",
            },
        },
    )
    event.listen(engine.sync_engine, "connect", _notice_the_end)
    event.listen(engine.sync_engine, "checkout", _require_open)
    return engine


def _notice_the_end(connection: Any, _record: object) -> None:
    """Let the system end a connection whose server answers nothing any more.

    A server that only takes its time still answers the probes.
    """
    wire = connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg has no setting for it
    if wire.family == socket.AF_UNIX:
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        wire.setsockopt(socket.IPPROTO_TCP, option, value)


def _require_open(connection: Any, _record: object, _checked_out: object) -> None:
    """Let the pool replace a connection that the server ended while it was idle; this needs no query."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server ended it")


def dsn(database: settings.Database) -> str:
    """Return the address as libpq and asyncpg write it, for `connect_args`; it holds the password."""
    url = make_url(database.database_url.get_secret_value())
    several = url.query.get("host")
    if isinstance(several, tuple):
        url = url.update_query_dict({"host": ",".join(several)})
    if "target_session_attrs" not in url.query:
        # After a failover the old name may lead to a standby for a while: a connection to it would work, and every write fail.
        url = url.update_query_dict({"target_session_attrs": "primary"})
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def rows(tx: AsyncConnection, sql: str, *parameters: object) -> list[Any]:
    """Run one statement with `$1…` parameters and return its rows. Raises one of TROUBLE."""
    if driver(tx).is_in_transaction():
        async with statement(tx) as raw:
            found: list[Any] = await raw.fetch(sql, *parameters)
        return found
    # SQLAlchemy begins with the first statement that goes through it, and ends only what it began.
    result = await tx.exec_driver_sql(sql, parameters)
    return list(result.all()) if result.returns_rows else []


def columns(found: Iterable[Sequence[object]]) -> list[list[Any]]:
    """Return rows, one at least, as columns for `unnest`: a statement then has as many parameters as columns."""
    return [list(column) for column in zip(*found, strict=True)]


@asynccontextmanager
async def statement(tx: AsyncConnection) -> AsyncIterator[asyncpg.Connection]:
    """Yield asyncpg's own connection for one statement; when that is cancelled, the connection ends with it.

    As SQLAlchemy does for its own statements: a server that no longer answers would not answer a ROLLBACK, either. Only after
    a statement went through `rows`: before the BEGIN it would commit by itself.
    """
    try:
        yield driver(tx)
    except asyncio.CancelledError:
        await tx.invalidate()
        raise


def driver(tx: AsyncConnection) -> asyncpg.Connection:
    """Return asyncpg's own connection inside `tx`; `statement` is for what is run on it."""
    assert tx.sync_connection is not None, "open the transaction first"
    return tx.sync_connection.connection.driver_connection


async def begin_again(tx: AsyncConnection) -> None:
    """End the transaction, in which nothing was written, and begin another in its place: it holds no lock any more."""
    async with statement(tx) as raw:
        await raw.execute("rollback; begin")


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database error, however deep SQLAlchemy wrapped it."""
    state = getattr(driver_error(error), "sqlstate", None)
    return state if isinstance(state, str) else None


def driver_error(error: BaseException) -> BaseException:
    """Return what asyncpg raised, however deep SQLAlchemy wrapped it; of any other error, itself."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, asyncpg.PostgresError | asyncpg.InternalClientError):
        seen = getattr(seen, "orig", None) or seen.__cause__
    return error if seen is None else seen
