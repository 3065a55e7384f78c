"""`cb-ops roles`: who may do what in the database."""

from functools import partial
from typing import Annotated

import typer

from deploy.ops import roles, show
from deploy.ops.commands.runner import Json, group, in_database, run
from deploy.ops.roles import Plan
from shared import environment, settings

app = group("roles", "Who may do what in the database, by the map of rights.")


Keep = Annotated[bool, typer.Option("--keep", help="Take no right away: an older release that still runs may need it.")]


@app.command("plan")
def roles_plan(*, as_json: Json = False) -> None:
    """Print the SQL that brings the roles and their rights to the map; nothing is changed."""
    _show(run(in_database(environment.read(settings.Database), roles.plan)), as_json=as_json)


@app.command("apply")
def roles_apply(*, keep: Keep = False, as_json: Json = False) -> None:
    """Run that SQL in one transaction and print it; run it after every migration, as the owner of the tables."""
    database = environment.read(settings.Database)
    with show.progress("bringing the roles to the map"):
        made = run(in_database(database, partial(roles.apply, keep=keep)))
    _show(made, as_json=as_json)


def _show(made: Plan, *, as_json: bool) -> None:
    if as_json:
        show.json(made)
        return
    for statement in made.statements:
        show.say(f"{statement};")
    for note in made.notes:
        show.say(f"-- every user has this right, our processes too: {note}")
    for statement in made.kept:
        show.say(f"-- kept: {statement}")
    if not made.statements and not made.kept:
        show.say("-- nothing to do: roles and rights are as the map says")
