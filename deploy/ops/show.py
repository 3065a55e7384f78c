"""The output of `cb-ops`: answers on stdout as a table or as JSON, progress and errors on stderr.

Enters: plain values. Leaves: text. Nothing here knows where the values came from.
"""

import sys
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table

from deploy.ops.progress import Progress
from shared import clock

GAP = "  "  # between two columns
FOLDED_CELLS_MIN = 12  # narrower, a sentence that goes on below is a column of syllables
SILENCE_SECONDS = 1.0
STEPS = ((timedelta(days=2), timedelta(days=1), "d"), (timedelta(hours=2), timedelta(hours=1), "h"),
         (timedelta(minutes=2), timedelta(minutes=1), "min"))  # fmt: skip


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(line: str) -> None:
    """Print one line of an answer."""
    _console().print(line, soft_wrap=True)


def fail(line: str) -> None:
    """Print one line about an error."""
    _console(stderr=True).print(line, soft_wrap=True, style="red")


def json(value: object) -> None:
    """Print the answer for a script."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def text(content: str) -> None:
    """Print text from outside, line by line; control characters never reach a terminal."""
    sys.stdout.write("".join(c if _is_harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in content) + "\n")


def file(content: str) -> None:
    """Print a file of ours: a terminal as `text` does, anything else whole, so that what was taken can be put again."""
    if sys.stdout.isatty():
        text(content)
    else:
        sys.stdout.write(content + "\n")


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


def table(columns: Sequence[str], lines: Sequence[Sequence[object]], *, whole: Collection[str] = ()) -> None:
    """Print the answer for a person; what is too wide for the terminal is wrapped, nothing is cut off.

    The columns `whole` hold ids, which people copy and which are never broken; on a terminal too narrow for that, each row is
    printed field by field. Without a terminal there is no width to fit: a row stays one line, for grep and the like.
    """
    cells = [["" if cell is None else str(cell) for cell in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if not sys.stdout.isatty():
        for row in (columns, *cells):
            sys.stdout.write(GAP.join(map(set_cell_size, row, widths)).rstrip() + "\n")
        return
    least = [width if name in whole else min(width, FOLDED_CELLS_MIN) for name, width in zip(columns, widths, strict=True)]
    if sum(least) + len(GAP) * (len(least) - 1) > _console().width:
        _fields(columns, cells)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in cells:
        shown.add_row(*row)
    _console().print(shown)


def _fields(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print each row as its fields, one below the other; the terminal wraps long ones, and copies them whole."""
    width = max(map(cell_len, columns))
    for row in cells:
        for column, cell in zip(columns, row, strict=True):
            if cell:
                say(set_cell_size(column, width) + GAP + cell)
        say("")


def age(moment: datetime) -> str:
    """Return how long ago that was, in one unit."""
    passed = max(clock.now() - moment, timedelta())
    for least, unit, name in STEPS:
        if passed >= least:
            return f"{passed // unit} {name}"
    return f"{passed.seconds} s"


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show on stderr that work goes on; yields the function to call with how many of how many are done."""
    console = _console(stderr=True)
    # FORCE_COLOR has the console take a log for a terminal; and one that is dumb overwrites nothing.
    if console.file.isatty() and not console.is_dumb_terminal:
        with console.status(what) as status:
            yield lambda done, total: status.update(f"{what}: {done} of {total}")
        return
    begun = said_at = clock.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal said_at
        now = clock.monotonic()
        if now - begun > SILENCE_SECONDS and now - said_at > SILENCE_SECONDS and done < total:
            said_at = now
            console.print(f"{what}: {done} of {total}", soft_wrap=True)

    yield report
