"""`cb-ops`: the operator's command. Thin: it reads settings, asks insights.py or actions.py, and shows the answer.

Exit status: 0 when it was done, 1 when it could not be (one line on stderr says why), 2 when the call or a setting is wrong.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops import actions, insights, show
from deploy.ops.dead_letters import REPLAYED_TO, DeadLetter
from deploy.ops.errors import OpsError, telling_of_database, telling_of_kafka
from shared import logs, settings, topics
from shared.db import engine as engines
from shared.db import migrate as migrations
from shared.kafka import provision

COMMAND = "cb-ops"
APPLICATION = "ops"
# What they say about a cluster that is away, or about each step of a migration, we tell in one line of ours.
QUIET = {"aiokafka": logging.CRITICAL, "alembic": logging.WARNING}

Answer = TypeVar("Answer")
Json = Annotated[bool, typer.Option("--json", help="For a script.")]


def _group(name: str | None, text: str) -> typer.Typer:
    return typer.Typer(name=name, help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


app = _group(COMMAND, "Look after CultureBridge payments: its tables, topics, dead letters, and what waits for a person.")
topics_app = _group("topics", "The cluster and the map of topics.")
dlt_app = _group("dlt", "Dead letters: what could not be taken, and putting it back.")
attention_app = _group("attention", "Matters that wait for a person.")
for _app in (topics_app, dlt_app, attention_app):
    app.add_typer(_app)


@app.command()
def migrate() -> None:
    """Bring the database to the newest shape; a second run changes nothing."""
    database = settings.read(settings.Database)

    async def work() -> list[str]:
        async with telling_of_database(database):
            return await migrations.upgrade(database)

    with show.progress("bringing the database to the newest shape"):
        ran = _run(work())
    for revision in ran:
        show.say(f"ran {revision}")
    if not ran:
        show.say("nothing to do: the database has the newest shape")


@topics_app.command("apply")
def topics_apply(*, as_json: Json = False) -> None:
    """Create the topics that are missing and tell what differs from the map; nothing is changed, shrunk or deleted."""
    kafka = settings.read(settings.Kafka)

    async def work() -> provision.Report:
        async with telling_of_kafka(kafka):
            await insights.require_kafka(kafka)
            return await provision.apply(kafka)

    with show.progress("comparing the cluster with the map"):
        report = _run(work())
    if as_json:
        show.json(report)
        return
    for name in report.created:
        show.say(f"created    {name}")
    for name in report.unchanged:
        show.say(f"unchanged  {name}")
    for found in report.differences:
        show.say(f"DIFFERS    {found.topic}: {found.setting} is {found.is_now or 'not set'}, the map says {found.should_be}")
    if report.differences:
        show.say(f"{len(report.differences)} differences were left as they are: changing what exists is an operator's decision")


@dlt_app.command("list")
def dlt_list(
    topic: Annotated[str | None, typer.Argument(help="One dead-letter topic; default: all of them.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List dead letters, newest last, without their bodies."""
    kafka = settings.read(settings.Kafka)

    async def work() -> list[DeadLetter]:
        which = [insights.dead_letter_topic(topic, prefix=kafka.topic_prefix)] if topic else topics.DEAD_LETTER_TOPICS
        async with telling_of_kafka(kafka):
            return await insights.dead_letters(kafka, which, progress=told)

    with show.progress("reading dead letters") as told:
        letters = _run(work())
    if as_json:
        show.json(letters)
    elif letters:
        _show_letters(letters)
    else:
        show.say("no dead letters")


@dlt_app.command("replay")
def dlt_replay(
    topic: Annotated[str, typer.Argument(help="The dead-letter topic.")],
    *,
    partition: Annotated[int | None, typer.Option(min=0, help="Where the one letter lies.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="Where the one letter lies.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter of the topic, of equal ones the first.")] = False,
    reason: Annotated[str | None, typer.Option(help="With --all: only letters with this reason's code.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be put back.")] = False,
) -> None:
    """Put dead letters back on the topic that they came from: the same key and bytes. Twice does nothing twice."""
    choice = _choice(partition, offset, every=every, reason=reason)
    kafka = settings.read(settings.Kafka)

    async def work() -> tuple[str, list[DeadLetter]]:
        source = insights.dead_letter_topic(topic, prefix=kafka.topic_prefix)
        async with telling_of_kafka(kafka):
            found = await actions.replay(kafka, source, choice, dry_run=dry_run, progress=told)
        return REPLAYED_TO[source].named(kafka.topic_prefix), found

    with show.progress("replaying dead letters") as told:
        goal, letters = _run(work())
    if not letters:
        show.say("no such dead letters: nothing was put back")
        return
    _show_letters(letters)
    done = "would go back to" if dry_run else "went back to"
    show.say(f"{len(letters)} {done} {goal}")


@attention_app.command("list")
def attention_list(
    *,
    resolved_too: Annotated[bool, typer.Option("--all", help="Also what was resolved, when, and by whom.")] = False,
    as_json: Json = False,
) -> None:
    """List what waits for a person, oldest first."""
    database = settings.read(settings.Database)
    found = _run(_in_database(database, lambda tx: insights.matters(tx, resolved_too=resolved_too)))
    if as_json:
        show.json(found)
    elif found:
        _show_matters(found)
    else:
        show.say("nothing waits for a person")


@attention_app.command("resolve")
def attention_resolve(
    matter_id: Annotated[uuid.UUID, typer.Argument(metavar="ID", help="As `attention list` shows it.")],
    *,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who looked after it.")],
    as_json: Json = False,
) -> None:
    """Mark a matter as looked after; who did it first stays."""
    if not by.strip():
        raise typer.BadParameter("who looked after it?", param_hint="--by")
    database = settings.read(settings.Database)
    matter, was_open = _run(_in_database(database, lambda tx: actions.resolve(tx, matter_id, by=by.strip())))
    if as_json:
        show.json(matter)
    elif was_open:
        show.say(f"resolved {matter.reason} of {matter.aggregate}")
    else:
        show.say(f"{matter.reason} of {matter.aggregate} was resolved by {matter.resolved_by} already")


def main() -> None:
    """Run the command."""
    logs.configure(APPLICATION)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    app()


def _run(work: Coroutine[object, object, Answer]) -> Answer:
    try:
        return asyncio.run(work)
    except OpsError as error:
        show.fail(str(error))
        raise typer.Exit(1) from None


async def _in_database(database: settings.Database, work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
    engine = engines.create(database, application=APPLICATION, pool_size=1)
    try:
        async with telling_of_database(database), engine.begin() as tx:
            return await work(tx)
    finally:
        await engine.dispose()


def _choice(partition: int | None, offset: int | None, *, every: bool, reason: str | None) -> actions.Choice:
    if every and partition is None and offset is None:
        return actions.Every(reason)
    if not every and partition is not None and offset is not None and reason is None:
        return actions.Place(partition, offset)
    raise typer.BadParameter("say which: --partition P --offset O for one letter, or --all [--reason CODE]")


def _show_letters(letters: Sequence[DeadLetter]) -> None:
    show.table(
        ("topic", "partition", "offset", "age", "key", "reason", "origin", "attempts"),
        [(x.topic, x.partition, x.offset, show.age(x.died_at), x.key, x.reason, x.origin, x.attempts) for x in letters],
    )


def _show_matters(matters: Sequence[insights.Matter]) -> None:
    show.table(
        ("id", "age", "reason", "about", "cause", "resolved by"),
        [(x.id, show.age(x.opened_at), x.reason, x.aggregate, x.cause, x.resolved_by) for x in matters],
    )
