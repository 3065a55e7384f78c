"""The display of a simulation: its progress, its result, every difference.

Enters: steps and reports. Leaves: a display that lives at a terminal, whole lines elsewhere.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.dev.simulation.comparison import Difference
from deploy.dev.simulation.run import Plan, Report
from deploy.dev.simulation.steps import Step
from deploy.dev.terminal import Voice
from shared import clock

LIVE_PER_SECOND = 5
PLAIN_EVERY_SECONDS = 5.0
BAR_WIDTH = 24
SHOWN = tuple(step for step in Step if step is not Step.WENT)


class Board:
    """Counts the steps of one simulation and shows them."""

    def __init__(self, plan: Plan, voice: Voice) -> None:
        self.steps: Counter[Step] = Counter()
        self._plan = plan
        self._voice = voice
        self.began_at = clock.monotonic()
        self._said_at = self.began_at

    def tell(self, step: Step) -> None:
        """Count one step."""
        self.steps[step] += 1
        if not self._voice.console.is_terminal and clock.monotonic() - self._said_at >= PLAIN_EVERY_SECONDS:
            self._said_at = clock.monotonic()
            self._voice.say(f"seed {self._plan.seed}", f"{self._seconds():.0f} s: {self.told()}")

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the display alive while the block runs; without a terminal `tell` says a line now and then."""
        if not self._voice.console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._picture, console=self._voice.console, refresh_per_second=LIVE_PER_SECOND, transient=True
        ):
            yield

    def told(self) -> str:
        """Return the steps so far as one line."""
        counts = ", ".join(f"{self.steps[step]} {step.value}" for step in SHOWN)
        return f"{counts}; {self.steps[Step.CAME] - self.steps[Step.WENT]} under way"

    def _seconds(self) -> float:
        return clock.monotonic() - self.began_at

    def _picture(self) -> RenderableType:
        seconds = self._seconds()
        here = self.steps[Step.CAME] - self.steps[Step.WENT]
        phase = "customers come" if seconds < self._plan.seconds else f"{here} under way" if here else "until all is quiet"
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(f"seed {self._plan.seed}", "bold"),
            ProgressBar(total=self._plan.seconds, completed=min(seconds, self._plan.seconds), width=BAR_WIDTH),
            Text(f"{seconds:.0f} s, {phase}", "dim"),
        )
        counts = Table.grid(padding=(0, 2))
        counts.add_row(*(Text(f"{self.steps[step]}", _colour(step)) + Text(f" {step.value}", "dim") for step in SHOWN))
        whole = Table.grid()
        whole.add_row(head)
        whole.add_row(counts)
        return whole


def tell_report(board: Board, plan: Plan, report: Report, voice: Voice) -> None:
    """Print the result of one simulation: a line, how the bookings ended, and every difference."""
    verdict = (_many(report.differences), "bold red") if report.differences else ("no difference", "green")
    voice.ready(f"seed {plan.seed}", Text.assemble(f"{board.steps[Step.CAME]} customers, ", verdict), board.began_at)
    if report.differences:
        _tell_differences(report.differences, voice)


def tell_outcomes(outcomes: Counter[str], voice: Voice) -> None:
    """Print how many bookings ended in which way."""
    for ended, count in sorted(outcomes.items(), key=lambda one: (-one[1], one[0])):
        voice.console.print(f"{count:>8}  {ended}", markup=False)


def _many(differences: tuple[Difference, ...]) -> str:
    return f"{len(differences)} difference{'s' if len(differences) > 1 else ''}"


def _tell_differences(differences: tuple[Difference, ...], voice: Voice) -> None:
    if not voice.console.is_terminal:
        for one in differences:
            said = f"{one.what}: Stripe says {one.stripe_says}; we say {one.we_say}; ask: {one.ask}"
            voice.console.print(f"  {said}", markup=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("what", "Stripe says", "we say"):
        table.add_column(title, overflow="fold")
    table.add_column("ask why", no_wrap=True)  # a command is copied whole
    for one in differences:
        table.add_row(*(Text(cell) for cell in (one.what, one.stripe_says, one.we_say, one.ask)))
    voice.console.print(table, soft_wrap=False)
    voice.say("ask", 'cb-ops finds the box after: eval "$(cb-dev env)"')


def _colour(step: Step) -> str:
    return "bold red" if step is Step.HINDERED else "bold"
