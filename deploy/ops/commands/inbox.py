"""`cb-ops inbox prune`: forget what cannot be sent again."""

from deploy.ops import pruning, show
from deploy.ops.commands.runner import Json, engine_of, group, run
from deploy.ops.errors import database_errors_as_ops_errors
from deploy.ops.pruning import Pruned
from shared import environment, settings

app = group("inbox", "The memory of events that were taken.")


@app.callback()
def about() -> None:
    """Keep `prune` a command of its own, though it is the only one."""


@app.command()
def prune(*, as_json: Json = False) -> None:
    """Drop months older than 45 days, make the three to come, forget checkouts that came to nothing; run it daily.

    A second run changes nothing.
    """
    database = environment.read(settings.Database)

    async def work() -> Pruned:
        async with engine_of(database) as engine, database_errors_as_ops_errors(database):
            return await pruning.prune(engine, await pruning.moment(engine), progress=report_progress)

    with show.progress("pruning the inbox") as report_progress:
        pruned = run(work())
    if as_json:
        show.json(pruned)
        return
    for name in pruned.made:
        show.say(f"made     {name}")
    for name in pruned.dropped:
        show.say(f"dropped  {name}")
    if pruned.deleted:
        show.say(f"deleted  {pruned.deleted} entries of the DEFAULT partition")
    if pruned.forgotten:
        show.say(f"forgot   name and address of {pruned.forgotten} checkouts that came to nothing")
    show.say(f"events are remembered since {pruned.kept_since:%Y-%m-%d}")
