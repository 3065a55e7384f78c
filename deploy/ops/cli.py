"""`cb-ops`: the operator's command. Thin: every group is a file of commands/, reads settings, asks, and shows the answer.

Exit status: 0 when it was done, 1 when it could not be (one line on stderr says why) or when a check found something wrong,
2 when the call or a setting is wrong.
"""

import logging

from deploy.ops import output, show
from deploy.ops.commands import acls, attention, dead_letters, inbox, roles, stripe_account, templates, topics, waiting, why
from deploy.ops.commands.runner import APPLICATION, group, run
from deploy.ops.errors import database_errors_as_ops_errors
from shared import environment, logs, settings
from shared.db import migrate as migrations

COMMAND = "cb-ops"
# What they log about a cluster that is away, or about each step of a migration, we print in one line of ours.
QUIET = {"aiokafka": logging.CRITICAL, "alembic": logging.WARNING}

app = group(COMMAND, "Look after CultureBridge payments: why a payment is as it is, what waits, what failed, and the ground.")
app.command("why")(why.explain)
for _group in (waiting, attention, dead_letters, templates, stripe_account, inbox, topics, acls, roles):
    app.add_typer(_group.app)


@app.command()
def migrate() -> None:
    """Bring the database to the newest shape, and letters to this release's texts; a second run changes nothing.

    An older release's run changes nothing either, if a migration lies between the two.
    """
    database = environment.read(settings.Database)

    async def work() -> migrations.Upgraded:
        async with database_errors_as_ops_errors(database):
            return await migrations.upgrade(database)

    with show.progress("bringing the database to the newest shape"):
        upgraded = run(work())
    for revision in upgraded.ran:
        show.say(f"ran {revision}")
    if upgraded.newer is not None:
        show.say(f"left as it is: the database is of a newer release ({upgraded.newer})")
    elif not upgraded.ran:
        show.say("nothing to do: the database has the newest shape")


def main() -> None:
    """Run the command."""
    logs.configure(APPLICATION)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    output.take_every_letter()
    with output.complete():
        app()
