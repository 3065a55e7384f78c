"""Whether PostgreSQL answers, for readiness."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.db.engine import TROUBLE, driver_error, sqlstate

ANSWERS_WITHIN_SECONDS = 2.0


def trouble(engine: AsyncEngine) -> Callable[[], Awaitable[Sequence[str]]]:
    """Return a readiness check: the reasons why the database cannot be used, none when it can."""

    async def check() -> Sequence[str]:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_SECONDS), engine.connect() as connection:
                read_only = (await connection.exec_driver_sql("show transaction_read_only")).scalar_one() == "on"
        except TROUBLE as error:
            return [f"database: {type(driver_error(error)).__name__} {sqlstate(error) or ''}".rstrip()]
        return ["database: it takes no writes"] if read_only else []

    return check
