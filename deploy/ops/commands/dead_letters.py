"""`cb-ops dlt`: what could not be taken, putting it back, and giving it up."""

import functools
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from deploy.ops import actions, insights, show
from deploy.ops.actions import SelectedLetter
from deploy.ops.audit import Audit
from deploy.ops.commands.runner import Json, group, in_database, person, run
from deploy.ops.dead_letters import REPLAYED_TO, ActionKind, DeadLetter, Selection
from deploy.ops.errors import kafka_errors_as_ops_errors
from shared import clock, environment, settings, topics
from shared.topics import Topic

app = group("dlt", "Dead letters: what could not be taken, putting it back, and giving it up.")

AGE = re.compile(r"(\d{1,6})(s|m|h|d)")
UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}

Ids = Annotated[
    list[str] | None,
    typer.Option(
        "--id", metavar="ID", help="PARTITION/OFFSET as `dlt list` shows it, or an event's, payment's or booking's id."
    ),
]
Code = Annotated[str | None, typer.Option(help="Only with this reason's code.")]
Older = Annotated[str | None, typer.Option("--older-than", metavar="AGE", help="Only older ones: 90s, 15m, 2h, 3d.")]
Newer = Annotated[str | None, typer.Option("--newer-than", metavar="AGE", help="Only newer ones: 90s, 15m, 2h, 3d.")]
Every = Annotated[bool, typer.Option("--all", help="Every letter of the topic.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decided it; the table of actions keeps it.")]
OneTopic = Annotated[str, typer.Argument(help="The dead-letter topic.")]


class DeadLetterSettings(settings.Database, settings.Kafka):
    """The settings: the cluster that holds the letters, and the database that holds the actions on them."""


@app.command("list")
def list_(
    topic: Annotated[str | None, typer.Argument(help="One dead-letter topic; default: all of them.")] = None,
    *,
    ids: Ids = None,
    reason: Code = None,
    older_than: Older = None,
    newer_than: Newer = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that were dropped.")] = False,
    as_json: Json = False,
) -> None:
    """List dead letters, newest last, without their bodies, with what was done about them."""
    selection = _selection(ids, reason, older_than, newer_than)
    configured = environment.read(DeadLetterSettings)

    async def work() -> list[DeadLetter]:
        prefix = configured.topic_prefix
        which = [insights.dead_letter_topic(topic, prefix=prefix)] if topic else topics.DEAD_LETTER_TOPICS
        async with kafka_errors_as_ops_errors(configured):
            found = await insights.dead_letters(configured, which, progress=progress)
        now = clock.now()
        letters = await _audit(configured).with_actions([letter for letter in found if selection.fits(letter, now=now)])
        return [letter for letter in letters if every or not letter.is_dropped]

    with show.progress("reading dead letters") as progress:
        letters = run(work())
    if as_json:
        show.json(letters)
    elif letters:
        _show_letters(letters)
    else:
        show.say("no dead letters")


@app.command("show")
def show_(topic: OneTopic, letter_id: Annotated[str, typer.Argument(metavar="ID", help="PARTITION/OFFSET.")]) -> None:
    """Show one with its headers and its body, exactly as it was refused; what a customer typed may be in it."""
    selection = Selection(ids=(letter_id,))
    if selection.places is None:
        raise typer.BadParameter("PARTITION/OFFSET, as `dlt list` shows it", param_hint="ID")
    configured = environment.read(DeadLetterSettings)

    async def work() -> SelectedLetter:
        source = insights.dead_letter_topic(topic, prefix=configured.topic_prefix)
        found = await actions.select(
            configured, source, selection, audit=_audit(configured), progress=progress, dropped_too=True
        )
        return found[0]

    with show.progress("reading dead letters") as progress:
        selected = run(work())
    letter = selected.letter
    reason = letter.reason or "no reason given"
    show.say(f"{letter.topic}/{letter.id} became a dead letter {show.age(letter.died_at)} ago: {reason}")
    for name, value in selected.record.headers:
        show.text(f"{name}: {value.decode(errors='replace')}")
    for action in letter.actions:
        done = "" if action.done_at else ", perhaps not to the end"
        show.say(f"{action.action} by {action.actor} at {action.begun_at:%Y-%m-%d %H:%M:%S} UTC{done}")
    show.text(selected.record.value.decode(errors="replace"))


@app.command()
def replay(
    topic: OneTopic,
    *,
    by: By,
    ids: Ids = None,
    reason: Code = None,
    older_than: Older = None,
    newer_than: Newer = None,
    every: Every = False,
    dry_run: DryRun = False,
) -> None:
    """Put dead letters back on the topic that they came from: the same key and bytes. Twice does nothing twice."""
    selection = _narrowed(_selection(ids, reason, older_than, newer_than), every=every)
    name, configured = person(by), environment.read(DeadLetterSettings)
    audit = _audit(configured)

    async def work() -> tuple[str, list[SelectedLetter], list[SelectedLetter], int]:
        source = insights.dead_letter_topic(topic, prefix=configured.topic_prefix)
        found = await actions.select(configured, source, selection, audit=audit, progress=progress)
        selected = [one for one in found if not one.letter.bytes_omitted]
        left = [one for one in found if one.letter.bytes_omitted]
        count = len({(one.record.key, one.record.value) for one in selected})
        if selected and not dry_run:
            count = await actions.replay(configured, source, selected, audit=audit, by=name)
        return REPLAYED_TO[source].named(configured.topic_prefix), selected, left, count

    with show.progress("replaying dead letters") as progress:
        goal, selected, left, count = run(work())
    if selected:
        _show_letters([one.letter for one in selected])
        show.say(f"{count} would go back to {goal}" if dry_run else f"{count} went back to {goal}")
    elif not left:
        show.say("no such dead letters: nothing was put back")
    if left:
        places = ", ".join(one.letter.id for one in left)
        show.fail(f"left where they are: {places}; larger than a dead letter can be, each lies whole at its origin only")
        raise typer.Exit(1)


@app.command()
def drop(
    topic: OneTopic,
    *,
    by: By,
    ids: Ids = None,
    reason: Code = None,
    older_than: Older = None,
    newer_than: Newer = None,
    every: Every = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give dead letters up: they are neither listed nor put back any more, and the table of actions keeps who decided it."""
    selection = _narrowed(_selection(ids, reason, older_than, newer_than), every=every)
    name, configured = person(by), environment.read(DeadLetterSettings)
    audit = _audit(configured)

    async def look() -> tuple[Topic, list[SelectedLetter]]:
        source = insights.dead_letter_topic(topic, prefix=configured.topic_prefix)
        return source, await actions.select(configured, source, selection, audit=audit, progress=progress)

    with show.progress("reading dead letters") as progress:
        source, selected = run(look())
    if not selected:
        show.say("no such dead letters: nothing was dropped")
        return
    _show_letters([one.letter for one in selected])
    if dry_run:
        show.say(f"{len(selected)} would be dropped from {source.named(configured.topic_prefix)}")
        return
    if not yes:
        typer.confirm(f"Give {len(selected)} dead letters up for good?", abort=True, err=True)
    run(actions.drop(selected, audit=audit, by=name))
    show.say(f"{len(selected)} dropped from {source.named(configured.topic_prefix)}")


def _audit(configured: settings.Database) -> Audit:
    return Audit(functools.partial(in_database, configured))


def _selection(ids: list[str] | None, reason: str | None, older_than: str | None, newer_than: str | None) -> Selection:
    return Selection(
        ids=tuple(ids or ()),
        code=reason,
        older_than=_age(older_than, "--older-than"),
        newer_than=_age(newer_than, "--newer-than"),
    )


def _narrowed(selection: Selection, *, every: bool) -> Selection:
    """Return the selection; a call without one must not mean everything."""
    if every == (selection != Selection()):
        raise typer.BadParameter("say which: --all, or any of --id, --reason, --older-than, --newer-than")
    return selection


def _age(text: str | None, option: str) -> timedelta | None:
    if text is None:
        return None
    match = AGE.fullmatch(text)
    if match is None:
        raise typer.BadParameter("90s, 15m, 2h or 3d", param_hint=option)
    return int(match[1]) * UNITS[match[2]]


def _show_letters(letters: Sequence[DeadLetter]) -> None:
    show.table(
        ("topic", "id", "age", "key", "reason", "origin", "attempts", "done"),
        [(x.topic, x.id, show.age(x.died_at), x.key, x.reason, x.origin, x.attempts, _done(x)) for x in letters],
        whole=("id", "key"),
    )


def _done(letter: DeadLetter) -> str:
    if not letter.actions:
        return ""
    last = letter.actions[-1]
    word = {ActionKind.REPLAY.value: "replayed", ActionKind.DROP.value: "dropped"}.get(last.action, last.action)
    return f"{word if last.done_at else f'{last.action} begun'} by {last.actor}, {show.age(last.begun_at)} ago"
