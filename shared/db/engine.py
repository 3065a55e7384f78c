"""The one way to reach PostgreSQL: SQLAlchemy's transactions over asyncpg.

Stores speak SQL through `exec_driver_sql` with asyncpg's own `$1`, since compiling and converting costs more than the
statement itself at a batch's size.
"""

from typing import Any

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared import settings

STATEMENT_TIMEOUT_MS = 30_000  # a statement of ours takes milliseconds; one that waits this long holds others up
CONNECT_TIMEOUT_SECONDS = 5
# asyncpg reads the address itself (`dsn`), since it knows what libpq means by sslmode and the rest: SQLAlchemy would hand these
# over as arguments, which asyncpg does not have (sqlalchemy issue 6275).
DRIVER = "postgresql+asyncpg://"

# What a transaction raises while PostgreSQL is away or refuses; asyncpg's own where it is asked directly, as for COPY.
TROUBLE = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


def create(database: settings.Database, *, application: str, pool_size: int = 5) -> AsyncEngine:
    """Return an engine whose connections call themselves `application`; nothing is connected yet.

    Raises nothing now; its connections raise one of TROUBLE when PostgreSQL is away or lets nobody in.
    """
    return create_async_engine(
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
                "timezone": "UTC",
                # A plan that was kept from the time when a table was empty reads it whole, until somebody analyzes it.
                "plan_cache_mode": "force_custom_plan",
            },
        },
    )


def dsn(database: settings.Database) -> str:
    """Return the address as libpq and asyncpg write it, for `connect_args`; it holds the password."""
    url = make_url(database.database_url.get_secret_value())
    several = url.query.get("host")
    if isinstance(several, tuple):
        url = url.update_query_dict({"host": ",".join(several)})
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def rows(tx: AsyncConnection, sql: str, *parameters: object) -> list[Any]:
    """Run one statement with `$1…` parameters and return its rows."""
    result = await tx.exec_driver_sql(sql, parameters)
    return list(result.all()) if result.returns_rows else []


async def driver(tx: AsyncConnection) -> asyncpg.Connection:
    """Return asyncpg's own connection inside `tx`, for COPY.

    Only after a statement went through `tx`: SQLAlchemy begins lazily, and before its BEGIN a COPY would commit by itself.
    """
    assert tx.in_transaction(), "open the transaction first"
    raw = await tx.get_raw_connection()
    return raw.driver_connection


async def begin_again(tx: AsyncConnection) -> None:
    """End the transaction, in which nothing was written, and begin another in its place: it holds no lock any more."""
    await (await driver(tx)).execute("rollback; begin")


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database error, however deep SQLAlchemy wrapped it."""
    seen: BaseException | None = error
    while seen is not None:
        state = getattr(seen, "sqlstate", None)
        if isinstance(state, str):
            return state
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None
