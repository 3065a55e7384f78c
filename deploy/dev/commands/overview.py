"""What a person sees of a box: which pieces run and since when, where its state lies, which addresses to open."""

from collections.abc import Iterator
from datetime import timedelta

import psutil
from rich.text import Text

from deploy.dev.processes import process
from deploy.dev.state import Box
from deploy.dev.terminal import Voice
from shared import clock

GAP = "  "  # between two columns
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
    for line in _pieces(box, running):
        voice.console.print(line)
    voice.say("state", f"{box.home}, the database's in {note['database_folder']}")
    show_addresses(box, voice)
    if note["whole"]:
        voice.say("to try", f"{_to_pay_for(note['environment']['DATABASE_URL'])} and: {box.command('token --as client')}")
    return True


def show_addresses(box: Box, voice: Voice) -> None:
    """Print where to go in a box that is up."""
    variables = box.read("box").get("environment", {})
    shown = [(name, f"{variables[variable]}{path}") for variable, (name, path) in ADDRESSES.items() if variable in variables]
    width = max((len(name) for name, _ in shown), default=0)  # a box that went down a moment ago has none
    for name, address in shown:
        voice.console.print(Text.assemble((f"{name:<{width}}", "bold"), GAP, address))
    voice.say("any shell", f'joins with: eval "$({box.command("env")})"')


def _pieces(box: Box, running: dict[str, psutil.Process]) -> Iterator[Text]:
    """Yield a line for each piece; its log is never cut off, however few columns there are."""
    lines = [("bold", "piece", "pid", "up for", "log")]
    for name, note in sorted(box.read("processes").items()):
        log = str(box.logs / f"{name}.log")
        if found := running.get(name):
            up_for = timedelta(seconds=int(clock.now().timestamp() - found.create_time()))
            lines.append(("", name, str(note["pid"]), str(up_for), log))
        else:
            lines.append(("yellow", name, "-", "down", log))
    _, *widths, _ = (max(map(len, column)) for column in zip(*lines, strict=True))
    heading, *pieces = (
        (style, *(f"{cell:<{width}}{GAP}" for cell, width in zip(cells, widths, strict=True)), log)
        for style, *cells, log in lines
    )
    yield Text("".join(heading[1:]), heading[0])
    for style, name, *others in pieces:
        yield Text.assemble((name, style), *others)


def _to_pay_for(database_url: str) -> str:
    # The database's libraries take a second to import, which no other look at a box needs.
    from pydantic import SecretStr  # noqa: PLC0415 - see above

    from deploy.dev.seed import store  # noqa: PLC0415 - see above
    from shared import settings  # noqa: PLC0415 - see above

    return store.to_pay_for(settings.Database(database_url=SecretStr(database_url)))
