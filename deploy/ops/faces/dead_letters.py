"""`cb-ops dlt`: what could not be taken, and putting it back."""

from collections.abc import Sequence
from typing import Annotated

import typer

from deploy.ops import actions, insights, show
from deploy.ops.dead_letters import REPLAYED_TO, DeadLetter
from deploy.ops.errors import telling_of_kafka
from deploy.ops.faces.asking import Json, group, run
from shared import settings, topics

app = group("dlt", "Dead letters: what could not be taken, and putting it back.")


@app.command("list")
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
        letters = run(work())
    if as_json:
        show.json(letters)
    elif letters:
        _show_letters(letters)
    else:
        show.say("no dead letters")


@app.command("replay")
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
        goal, letters = run(work())
    if not letters:
        show.say("no such dead letters: nothing was put back")
        return
    _show_letters(letters)
    done = "would go back to" if dry_run else "went back to"
    show.say(f"{len(letters)} {done} {goal}")


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
