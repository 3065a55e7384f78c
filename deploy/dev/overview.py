"""What a person sees of a box: which pieces run and since when, where its state lies, which addresses to open."""

from datetime import timedelta

import psutil
from rich.table import Table
from rich.text import Text

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
    is_taken = box.is_taken()
    running = process.remembered(box)
    if is_taken and not note.get("ready"):
        voice.say("box", f"is on its way up, or down ({box.home}); so far: {', '.join(sorted(running)) or 'nothing'}")
        return False
    if not is_taken:
        left = f"; left over from a crash and ended by the next start: {', '.join(sorted(running))}" if running else ""
        voice.say("box", f"is down ({box.home}){left}")
        return False
    voice.console.print(_pieces(box, running))
    voice.say("state", f"{box.home}, the database's in {note['database_folder']}")
    show_addresses(box, voice)
    if note["whole"]:
        voice.say("to try", f"{_to_pay_for(note['environment']['DATABASE_URL'])} and: {box.command('token --as client')}")
    return True


def show_addresses(box: Box, voice: Voice) -> None:
    """Print where to go in a box that is up."""
    variables = box.read("box")["environment"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for variable, (name, path) in ADDRESSES.items():
        if variable in variables:
            table.add_row(Text(name, "bold"), Text(f"{variables[variable]}{path}"))
    voice.console.print(table)
    voice.say("any shell", f'joins with: eval "$({box.command("env")})"')


def _pieces(box: Box, running: dict[str, psutil.Process]) -> Table:
    table = Table("piece", "pid", "up for", "log", box=None, padding=(0, 2, 0, 0))
    for name, note in sorted(box.read("processes").items()):
        log = Text(str(box.logs / f"{name}.log"))
        if found := running.get(name):
            up_for = timedelta(seconds=int(clock.now().timestamp() - found.create_time()))
            table.add_row(name, str(note["pid"]), str(up_for), log)
        else:
            table.add_row(Text(name, "yellow"), "-", "down", log)
    return table


def _to_pay_for(database_url: str) -> str:
    # The database's libraries take a second to import, which no other look at a box needs.
    from pydantic import SecretStr  # noqa: PLC0415 - see above

    from deploy.dev import store  # noqa: PLC0415 - see above
    from shared import settings  # noqa: PLC0415 - see above

    return store.to_pay_for(settings.Database(database_url=SecretStr(database_url)))
