"""Formats an error for the log: where it was raised, and its text only when it is ours.

Enters: an error. Leaves: its traceback, after those that caused it. PostgreSQL's text quotes a whole row, Python's a value.
Next: logs.py puts it into the line.
"""

import traceback
from collections.abc import Iterator, Sequence

from shared import errors

WITHHELD = "[withheld]"
# What an error of PostgreSQL has beside its text: names of our schema, never a value.
PLACE = ("sqlstate", "table_name", "column_name", "constraint_name")


def formatted(error: BaseException) -> str:
    """Return where an error was raised, after those that caused it, each with its kind; its text only when it is ours."""
    blocks: list[str] = []
    for one in _causes(error):
        frames = "".join(traceback.format_tb(one.__traceback__))
        blocks += [f"Traceback (most recent call last):\n{frames}{_kind(one)}", *map(formatted, _members(one))]
    return "\n\nwhich led to:\n\n".join(reversed(blocks))


def all_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield every error that `formatted` shows."""
    for one in _causes(error):
        yield one
        for member in _members(one):
            yield from all_errors(member)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and each that led to it, as Python shows them."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        yield behind
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)


def _members(error: BaseException) -> Sequence[BaseException]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _kind(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, errors.PipelineError):
        return f"{name}: {error}"
    words = [str(value) for part in PLACE if (value := getattr(error, part, None))]
    if str(error):
        words.append(WITHHELD)
    return f"{name}: {' '.join(words)}" if words else name
