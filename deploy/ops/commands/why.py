"""`cb-ops why`: the whole story of a booking or a payment, in plain words."""

from typing import Annotated

import typer

from deploy.ops import explanation, show, why
from deploy.ops.commands.runner import Json, in_database, run
from shared import clock, environment, settings


def explain(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A booking's or payment's id, or Stripe's: pi_, cs_, ch_, re_, py_, pyr_, dp_, du_, evt_."
        ),
    ],
    *,
    as_json: Json = False,
) -> None:
    """Explain why a booking or payment is as it is: every event, decision, change, letter and open matter, in time order."""
    database = environment.read(settings.Database)
    story = run(in_database(database, lambda tx: why.story(tx, asked.strip())))
    explained = explanation.explain(story, now=clock.now())
    if as_json:
        show.json({"story": story, "told": explained})
        return
    for line in explanation.lines(explained):
        show.say(line)
