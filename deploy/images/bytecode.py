"""Writes the bytecode of what the processes import, and of nothing else: `python bytecode.py NAME…`, while an image is built.

Enters: our modules and packages, and PYTHONPYCACHEPREFIX. Leaves: below that folder a bytecode file for every module that they
import, Python's own included, which is used without looking at the source. A container cannot write, and would compile at each
start; bytecode of everything installed would be three times as large.
"""

import importlib
import pkgutil
import py_compile
import sys
from collections.abc import Iterable, Iterator
from importlib.util import cache_from_source

RUN_BY_ALEMBIC = "shared.db.migrations.env"
# What is imported only once a process works, each for a reason of its own library's.
LATE = ("sqlalchemy.dialects.postgresql.asyncpg",)


def modules_of(name: str) -> Iterator[str]:
    """Return the names of a module and of everything below it."""
    yield name
    for found in pkgutil.walk_packages(getattr(importlib.import_module(name), "__path__", ()), f"{name}."):
        yield found.name


def bring_in(names: Iterable[str]) -> None:
    """Import these with everything below them, and what is imported only later."""
    for name in (*LATE, *(module for asked in names for module in modules_of(asked))):
        if name != RUN_BY_ALEMBIC:
            importlib.import_module(name)


def main() -> None:
    """Import the named modules, then compile every module that was imported."""
    bring_in(sys.argv[1:])
    for name, module in list(sys.modules.items()):
        source = getattr(module, "__file__", None) or ""
        if source.endswith(".py") and name != "__main__":
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(source, cache_from_source(source), doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    main()
