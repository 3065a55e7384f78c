"""`cb-ops attention`: matters that wait for a person."""

import uuid
from collections.abc import Sequence
from typing import Annotated

import typer

from deploy.ops import matters, show
from deploy.ops.commands.runner import Json, group, in_database, person, run
from deploy.ops.matters import Matter
from shared import environment, settings

app = group("attention", "Matters that wait for a person.")


@app.command("list")
def attention_list(
    *,
    resolved_too: Annotated[bool, typer.Option("--all", help="Also what was resolved, when, and by whom.")] = False,
    as_json: Json = False,
) -> None:
    """List what waits for a person, oldest first."""
    database = environment.read(settings.Database)
    found = run(in_database(database, lambda tx: matters.listed(tx, resolved_too=resolved_too)))
    if as_json:
        show.json(found)
    elif found:
        _show_matters(found)
    else:
        show.say("nothing waits for a person")


@app.command("resolve")
def attention_resolve(
    matter_id: Annotated[uuid.UUID, typer.Argument(metavar="ID", help="As `attention list` shows it.")],
    *,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who looked after it.")],
    as_json: Json = False,
) -> None:
    """Mark a matter as looked after; who did it first stays."""
    name, database = person(by), environment.read(settings.Database)
    matter, was_open = run(in_database(database, lambda tx: matters.resolve(tx, matter_id, by=name)))
    if as_json:
        show.json(matter)
    elif was_open:
        show.say(f"resolved {matter.reason} of {matter.aggregate}")
    else:
        show.say(f"{matter.reason} of {matter.aggregate} was resolved by {matter.resolved_by} already")


def _show_matters(matters: Sequence[Matter]) -> None:
    show.table(
        ("id", "age", "reason", "about", "cause", "resolved by"),
        [(x.id, show.age(x.opened_at), x.reason, x.aggregate, x.cause, x.resolved_by) for x in matters],
        whole=("id", "about", "cause"),
    )
