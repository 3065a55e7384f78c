"""A matter: what only a person can decide about; pure. Next: shared/db/attention.py stores it for `cb-ops attention`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matter:
    """Why, about whom, and what caused it; the same three are one matter, however often it is seen."""

    reason: str
    aggregate: str
    cause: str
