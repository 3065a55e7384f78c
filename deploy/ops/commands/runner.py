"""What all commands share: groups, running, and a database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from deploy.ops import show
from deploy.ops.errors import OpsError, database_errors_as_ops_errors
from shared import settings
from shared.db import engine as engines

APPLICATION = "ops"

Answer = TypeVar("Answer")
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]


def group(name: str | None, text: str) -> typer.Typer:
    """Return a group of commands that shows its help when called without one."""
    return typer.Typer(name=name, help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def person(by: str) -> str:
    """Return the name that `--by` gives; raises BadParameter when it is blank."""
    if not by.strip():
        raise typer.BadParameter("who decided it?", param_hint="--by")
    return by.strip()


def run(work: Coroutine[object, object, Answer]) -> Answer:
    """Do the work; an OpsError ends the command with one line and status 1."""
    try:
        return asyncio.run(work)
    except OpsError as error:
        show.fail(str(error))
        raise typer.Exit(1) from None


@asynccontextmanager
async def engine_of(database: settings.Database) -> AsyncIterator[AsyncEngine]:
    """Give an engine for one command."""
    engine = engines.create(database, application=APPLICATION, pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()


async def in_database(database: settings.Database, work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
    """Do the work in one transaction; raises DatabaseUnavailable."""
    async with engine_of(database) as engine, database_errors_as_ops_errors(database), engine.begin() as tx:
        return await work(tx)
