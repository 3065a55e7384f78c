"""Whether PostgreSQL answers, for readiness."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.db.engine import TROUBLE, sqlstate

ANSWERS_WITHIN_SECONDS = 2.0


def trouble(engine: AsyncEngine) -> Callable[[], Awaitable[Sequence[str]]]:
    """Return a readiness check: the reasons why the database cannot be used, none when it can."""

    async def check() -> Sequence[str]:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_SECONDS), engine.connect() as connection:
                await connection.exec_driver_sql("select 1")
        except TROUBLE as error:
            return [f"database: {type(error).__name__} {sqlstate(error) or ''}".rstrip()]
        return []

    return check
