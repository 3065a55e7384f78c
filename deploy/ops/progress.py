"""How far a long task of an operator's command has come. Whoever does the work reports it, show.py displays it."""

from collections.abc import Callable

Progress = Callable[[int, int], None]  # is called with how many are done, and of how many
