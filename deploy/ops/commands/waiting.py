"""`cb-ops waiting`: events that came before their payment was known."""

from typing import Annotated

import typer

from deploy.ops import actions, explanation, show, waiting_events
from deploy.ops.commands.runner import Json, group, in_database, person, run
from deploy.ops.errors import kafka_errors_as_ops_errors
from shared import environment, settings, topics
from shared.kafka.records import Record

app = group("waiting", "Events that came before their payment was known.")

Which = Annotated[list[str], typer.Argument(metavar="EVENT_ID…", help="As `waiting list` shows them.")]


class ReplaySettings(settings.Database, settings.Kafka):
    """What a replay reads: the database that holds the bytes, and the cluster that takes them."""


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List what waits, oldest first, without bodies; `unmatched` has waited for more than 72 hours."""
    database = environment.read(settings.Database)
    found = run(in_database(database, waiting_events.listed))
    if as_json:
        show.json(found)
    elif found:
        show.table(
            ("event", "kind", "waits for", "age", "state"),
            [(one.event_id, one.event_type, one.key, show.age(one.seen_at), one.state) for one in found],
            whole=("event", "waits for"),
        )
    else:
        show.say("no event waits for its payment")


@app.command("show")
def show_(event_id: Annotated[str, typer.Argument(metavar="EVENT_ID")], *, as_json: Json = False) -> None:
    """Show one with its body, exactly as Stripe signed it; what a customer typed may be in it."""
    database = environment.read(settings.Database)
    found = run(in_database(database, lambda tx: waiting_events.one(tx, event_id)))
    if as_json:
        show.json(found)
        return
    event = found.event
    show.say(
        f"{event.event_id} ({event.event_type}) is {event.state} under {event.key} since {explanation.moment(event.seen_at)}"
    )
    show.say(f"it lay at {event.topic}/{event.partition}/{event.offset}")
    show.text(found.body)


@app.command()
def replay(
    events: Annotated[list[str] | None, typer.Argument(metavar="EVENT_ID…", help="As `waiting list` shows them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Everything that waits.")] = False,
    as_json: Json = False,
) -> None:
    """Offer events again: the same bytes under the same key. What still finds no payment goes on waiting."""
    if every == bool(events):
        raise typer.BadParameter("say which: their ids, or --all")
    configured = environment.read(ReplaySettings)

    async def work() -> list[Record]:
        which = None if every else events
        records = await in_database(configured, lambda tx: waiting_events.replays(tx, which, prefix=configured.topic_prefix))
        async with kafka_errors_as_ops_errors(configured):
            if records:
                await actions.put_back(configured, records)
        return records

    with show.progress("offering events again"):
        offered = [record.key.decode() for record in run(work())]
    if as_json:
        show.json(offered)
    else:
        show.say(f"{len(offered)} offered again to {topics.STRIPE_EVENTS.named(configured.topic_prefix)}")


@app.command()
def drop(
    events: Which,
    *,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who decided it; the ledger keeps it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Give events up for good: their bytes are deleted, the ledger keeps that they were dropped, and by whom."""
    name, database = person(by), environment.read(settings.Database)
    if not yes:
        typer.confirm(f"Delete {len(events)} waiting events for good?", abort=True, err=True)
    dropped = run(in_database(database, lambda tx: waiting_events.drop(tx, events, by=name)))
    if as_json:
        show.json(dropped)
    else:
        show.say(f"dropped {', '.join(dropped)}")
