"""Sorts errors: those of one record's data, which becomes a dead letter, and those of a service, which pass.

Enters: what a transaction raised. Leaves: the verdict. An error that cannot be blamed on a record counts as a service's:
repeating a batch loses nothing, but a record that is refused wrongly waits for a person. Next: shared/kafka/batch.py halves a
batch down to the record whose data it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from shared import errors
from shared.db.engine import sqlstate

DATA_ERROR_CLASSES = ("22", "23")  # SQLSTATE: data exception, integrity constraint violation


class FoldBroken(errors.Permanent):
    """The pure part raised on an event's data."""


@contextmanager
def folding() -> Iterator[None]:
    """Mark the pure part of a transaction: what it raises is the fault of the data, unless memory is used up."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise FoldBroken(type(error).__name__) from error


def is_data_error(error: Exception) -> bool:
    """Return whether one record's data is at fault, so that the others of its batch can go on without it."""
    if isinstance(error, errors.Permanent | UnicodeError):
        return True
    state = sqlstate(error)
    return state is not None and state.startswith(DATA_ERROR_CLASSES)
