"""Shows one purchase to a person, hop by hop; if a hop is missing, says where to look.

Enters: a running stack. Leaves: lines for a terminal or plain ones, and whether every hop was seen. Next: purchase.py makes
the purchase, demo.py is who usually asks for it.
"""

from rich.table import Table
from rich.text import Text

from deploy.dev.demo.purchase import Hop, Missing, Purchase, Seen
from deploy.dev.demo.target import Target
from deploy.dev.processes import stop_signals
from deploy.dev.terminal import Voice

TIME_WIDTH = 8
TITLE_WIDTH = max(len(hop.title) for hop in Hop)


def tell(target: Target, voice: Voice, *, patience_seconds: float) -> bool:
    """Make one purchase in a running stack and show its hops; returns whether every hop was seen."""
    purchase = Purchase(target.variables, target.token, patience_seconds=patience_seconds)
    told: list[Seen] = []

    def say(seen: Seen) -> None:
        told.append(seen)
        _row(voice, f"{seen.after_ms} ms", ("✓", "green"), seen.hop.title, seen.what)

    voice.console.print()
    try:
        stop_signals.run(purchase.make(say))
    except Missing as missing:
        _row(voice, "", ("✗", "bold red"), missing.hop.title, f"missing: {missing.why}")
        voice.console.print()
        for line in target.look(missing.piece):
            voice.console.print(f"  {line}", markup=False)
        voice.console.print()
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
