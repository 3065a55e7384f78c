"""Standard output: a terminal, a pipe or a file, which may lack characters or have no room left.

Enters: a command that writes. Leaves: all of its answer, or one line and status 1. Next: cli.py runs every command inside.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from deploy.ops import show

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_ANSWER = 1


def take_every_letter() -> None:
    """Replace characters that stdout's encoding lacks by a question mark; stderr escapes them already."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def complete() -> Iterator[None]:
    """Exit with one line and status 1 when there was no room for the answer; silently when its reader is gone."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL | {errno.EPIPE}:
            raise
        # What is still to be written would be tried again at the very end, which would report it a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno in FULL:
            with suppress(OSError):  # stderr may lead to the same place
                show.fail(f"the answer could not be written: {error.strerror}")
        raise SystemExit(NO_ANSWER) from None
