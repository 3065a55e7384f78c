"""What `cb-dev` prints: lines with a time on a terminal, plain lines elsewhere."""

import atexit
import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

# Without a terminal a download speaks this often.
PLAIN_STEPS = 4


class Voice:
    """Prints what the box does. Text is never read as markup: a folder's name may look like it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    @property
    def is_watched(self) -> bool:
        """Tell whether the output is a real terminal; with FORCE_COLOR and others the console treats anything as one."""
        return self.console.file.isatty()

    def say(self, piece: str, what: str | Text) -> None:
        """Print one line: which piece, and what became of it."""
        self.console.print(Text.assemble((f"{piece:<10}", "bold"), " ", what))

    def ready(self, piece: str, what: str | Text, begun: float) -> None:
        """Print one line: a piece is ready, and how long that took (`begun` is of `time.monotonic`)."""
        self.say(piece, Text.assemble(what, "  ", (f"{time.monotonic() - begun:.1f} s", "dim")))

    def warn(self, piece: str, what: str) -> None:
        """Print one line about something that is not as it should be."""
        self.console.print(Text.assemble((f"{piece:<10}", "bold yellow"), " ", what))

    def relay(self, lines: str) -> None:
        """Print, as they are, lines that another process of the box has said."""
        if lines:
            self.console.print(lines, end="", markup=False)

    @contextlib.contextmanager
    def progress(self, what: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
        """Show a download of `size_bytes`; yields the function that is told of each further number of bytes."""
        if self.is_watched and not self.console.is_dumb_terminal:
            columns = (TextColumn("[bold]{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            with Progress(*columns, console=self.console, transient=True) as bar:
                # Ctrl-C ends the process without waiting for the thread of a download; the terminal wants its cursor back.
                atexit.register(bar.stop)
                try:
                    task = bar.add_task(what, total=size_bytes)
                    yield lambda more: bar.update(task, advance=more)
                finally:
                    atexit.unregister(bar.stop)
            return
        yield self._plain_progress(what, size_bytes)

    def _plain_progress(self, what: str, size_bytes: int) -> Callable[[int], None]:
        done = 0
        self.say("download", f"{what}: {size_bytes / 1e6:.1f} MB, once for all boxes of this user")

        def advance(more: int) -> None:
            nonlocal done
            before, done = done, done + more
            if done * PLAIN_STEPS // size_bytes > before * PLAIN_STEPS // size_bytes:
                self.say("download", f"{what}: {done / 1e6:.1f} of {size_bytes / 1e6:.1f} MB")

        return advance


class Silence(Voice):
    """For tests: nobody listens."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
