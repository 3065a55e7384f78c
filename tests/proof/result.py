"""What a proof returns: its claim, how many cases it went through, and the seed that draws them again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Progress = Callable[[int, int], None]


def silent(_done, _total):
    """Show no progress."""


@dataclass(frozen=True)
class Proved:
    """One proof that held. `cases` counts by name; `seed` is None where nothing is drawn; `how` is for the page."""

    title: str
    how: str
    cases: Mapping[str, int]
    seed: int | None = None
