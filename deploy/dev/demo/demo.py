"""What `make demo` shows: a box, one purchase in it, and the addresses to open.

A box that was up is joined and stays up. Otherwise it is ours: with a terminal it stays until Ctrl-C, without one it ends with
the story. Next: story.py.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.dev.box import control
from deploy.dev.demo import story
from deploy.dev.demo.target import BoxTarget
from deploy.dev.seed import store
from deploy.dev.services import environment
from deploy.dev.state import Box
from deploy.dev.terminal import Voice
from shared import settings

PAGES = {"API page": "CB_DEV_INGRESS_URL", "Stripe sandbox": "CB_DEV_SANDBOX_URL", "mailbox": "CB_DEV_MAILBOX_URL"}
PATHS = {"API page": "/docs"}


def show(home: Path | None, voice: Voice, *, patience_seconds: float) -> bool:
    """Show it; returns whether every hop was seen. BoxError when no box comes up, KeyboardInterrupt before the story's end."""
    box = Box(home)
    seen: bool | None = None
    try:
        with control.joined_or_kept_up(home, voice) as ours:
            seen = story.tell(BoxTarget(box), voice, patience_seconds=patience_seconds)
            show_addresses(voice, _addresses(box))
            if not ours:
                voice.say("box", "was up before, and stays up")
            elif voice.is_watched:
                voice.say("box", "stays up until Ctrl-C")
                control.wait_for_ever()
    except KeyboardInterrupt:
        # After the story this is how a person says goodbye.
        if seen is None:
            raise
    assert seen is not None
    return seen


def show_addresses(voice: Voice, rows: Mapping[str, str]) -> None:
    """Print what a person may open or try, by name."""
    width = max(map(len, rows))
    if not voice.console.is_terminal:
        for name, value in rows.items():
            voice.console.print(f"{name:<{width}}  {value}", markup=False)
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    voice.console.print(Panel.fit(table, border_style="dim", padding=(0, 1)), soft_wrap=False)


def pages(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of what can be opened in a browser, by name."""
    return {name: f"{variables[variable]}{PATHS.get(name, '/')}" for name, variable in PAGES.items()}


def _addresses(box: Box) -> dict[str, str]:
    variables = control.environment_of(box)
    database = settings.Database(database_url=SecretStr(variables["DATABASE_URL"]))
    ports = [f"{variables[f'CB_DEV_{name.upper()}_HEALTH_URL'].rpartition(':')[2]} {name}" for name in environment.HEALTH]
    return {
        **pages(variables),
        "health ports": ", ".join(ports),
        "to pay for": store.to_pay_for(database),
        "as its client": box.command("token --as client"),
    }
