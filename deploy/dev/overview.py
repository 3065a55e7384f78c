"""What a person sees of a box: which pieces run and since when, where its state lies, which addresses to open."""

import uuid
from datetime import timedelta

import psutil
from rich.table import Table

from deploy.dev import process
from deploy.dev.state import Box
from deploy.dev.voice import Voice
from shared import clock

ADDRESSES = {
    "CB_DEV_INGRESS_URL": ("API", "/docs"),
    "CB_DEV_SANDBOX_URL": ("Stripe sandbox", "/"),
    "CB_DEV_MAILBOX_URL": ("mailbox", "/"),
    "DATABASE_URL": ("database", ""),
    "KAFKA_BOOTSTRAP_SERVERS": ("Kafka", ""),
}


def show(box: Box, voice: Voice) -> bool:
    """Print the whole state of the box; returns whether it is up."""
    note = box.read("box")
    is_up = box.is_taken() and bool(note.get("ready"))
    running = process.remembered(box)
    if not is_up:
        left = f"; left over from a crash and ended by the next start: {', '.join(sorted(running))}" if running else ""
        voice.say("box", f"is down ({box.home}){left}")
        return False
    voice.console.print(_pieces(box, running))
    voice.say("state", f"{box.home}, the database's in {note['database_folder']}")
    show_addresses(box, voice)
    if note["whole"]:
        voice.say("to try", f"booking {_booking(note['environment']['DATABASE_URL'])} and: cb-dev token --as client")
    return True


def show_addresses(box: Box, voice: Voice) -> None:
    """Print where to go in a box that is up."""
    variables = box.read("box")["environment"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for variable, (name, path) in ADDRESSES.items():
        if variable in variables:
            table.add_row(f"[bold]{name}[/bold]", f"{variables[variable]}{path}")
    voice.console.print(table)
    voice.say("any shell", 'joins with: eval "$(cb-dev env)"')


def _pieces(box: Box, running: dict[str, psutil.Process]) -> Table:
    table = Table("piece", "pid", "up for", "log", box=None, padding=(0, 2, 0, 0))
    for name, note in sorted(box.read("processes").items()):
        if found := running.get(name):
            up_for = timedelta(seconds=int(clock.now().timestamp() - found.create_time()))
            table.add_row(name, str(note["pid"]), str(up_for), str(box.logs / f"{name}.log"))
        else:
            table.add_row(f"[yellow]{name}[/yellow]", "-", "down", str(box.logs / f"{name}.log"))
    return table


def _booking(database_url: str) -> uuid.UUID:
    # The database's libraries take a second to import, which no other look at a box needs.
    import asyncio  # noqa: PLC0415 - see above

    from pydantic import SecretStr  # noqa: PLC0415 - see above

    from deploy.dev import store  # noqa: PLC0415 - see above
    from shared import settings  # noqa: PLC0415 - see above

    return asyncio.run(store.a_payable_booking(settings.Database(database_url=SecretStr(database_url))))
