"""Tells one purchase to a person, hop by hop, and of a missing hop where to look.

Enters: a box that is up. Leaves: lines for a terminal or plain ones, and whether every hop was seen. Next: purchase.py makes
the purchase, demo.py is who usually asks for it.
"""

import asyncio
import http.client
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from deploy.dev import control, process, token
from deploy.dev.purchase import Hop, Missing, Purchase, Seen
from deploy.dev.state import Box
from deploy.dev.voice import Voice

HEALTH_SECONDS_MAX = 2
LOG_LINES = 6
TIME_WIDTH = 8
TITLE_WIDTH = max(len(hop.title) for hop in Hop)


def tell(box: Box, voice: Voice, *, patience_seconds: float) -> bool:
    """Make one purchase in a box that is up and tell it; returns whether every hop was seen. BoxError when it is down."""
    variables = control.environment_of(box)
    purchase = Purchase(variables, token.issue(box, "client"), patience_seconds=patience_seconds)
    told: list[Seen] = []

    def say(seen: Seen) -> None:
        told.append(seen)
        _row(voice, f"{seen.after_ms} ms", ("✓", "green"), seen.hop.title, seen.what)

    voice.console.print()
    try:
        asyncio.run(purchase.make(say))
    except Missing as missing:
        _row(voice, "", ("✗", "bold red"), missing.hop.title, f"missing: {missing.why}")
        _tell_where_to_look(box, voice, missing.piece, variables)
        return False
    voice.console.print(f"\n[bold]every hop was seen[/bold], the last after {max(seen.after_ms for seen in told)} ms")
    voice.console.print(f"[dim]booking {purchase.booking_id}, payment {purchase.payment_id}[/dim]\n")
    return True


def _row(voice: Voice, moment: str, mark: tuple[str, str], title: str, what: str) -> None:
    if not voice.console.is_terminal:
        # Whole lines, however long: they are for a log, or for another program.
        voice.console.print(f"{moment:>{TIME_WIDTH}}  {title:<{TITLE_WIDTH}}  {what}", markup=False)
        return
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=TIME_WIDTH, justify="right", style="dim")
    row.add_column(width=1)
    row.add_column(width=TITLE_WIDTH)
    row.add_column(overflow="fold")
    row.add_row(moment, Text(*mark), Text(title, "bold"), Text(what))
    voice.console.print(row, soft_wrap=False)


def _tell_where_to_look(box: Box, voice: Voice, piece: str, variables: Mapping[str, str]) -> None:
    log = box.logs / f"{piece}.log"
    lines = (f"{piece} {_condition(box, piece, variables)}", *(f"| {line}" for line in _last_lines(log)), f"its log: {log}")
    voice.console.print()
    for line in lines:
        voice.console.print(f"  {line}", markup=False)
    voice.console.print()


def _condition(box: Box, piece: str, variables: Mapping[str, str]) -> str:
    """Return how a piece is, as the end of a sentence that begins with its name."""
    if piece not in process.remembered(box):
        return "does not run"
    address = variables.get(f"CB_DEV_{piece.upper()}_HEALTH_URL")
    if address is None:
        return "runs"
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=HEALTH_SECONDS_MAX)
    try:
        connection.request("GET", "/health/ready")
        reasons = json.loads(connection.getresponse().read())["reasons"]
    except (OSError, http.client.HTTPException):
        return "runs and does not answer for its health"
    finally:
        connection.close()
    return f"is not ready: {'; '.join(reasons)}" if reasons else "runs and calls itself ready"


def _last_lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open(errors="replace") as lines:
        return [line.rstrip() for line in deque(lines, LOG_LINES)]
