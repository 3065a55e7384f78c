"""Idempotency keys: one key, one effect, one answer (docs.stripe.com/api/idempotent_requests). No I/O.

A key is free, at work, or answered. Answers are kept with the effect that they tell of, errors included; refusals
before any work leave the key free (``ApiError.executed``). Next: ``gate``.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from deploy.dev.stripe.errors import ApiError

KEEP_SECONDS = 24 * 60 * 60  # "You can remove keys from the system automatically after they're at least 24 hours old"
KEY_CHARACTERS_MAX = 255


class Answer(msgspec.Struct, frozen=True):
    """What a key was answered, and for which request."""

    fingerprint: str
    status: int
    body: str
    at: float


@dataclass(frozen=True)
class Fresh:
    """Nobody used this key: do the work, then ``settle`` or ``release``."""


class Answers:
    """Every key of the last 24 hours."""

    def __init__(self) -> None:
        self.stored: dict[str, Answer] = {}
        self._at_work: dict[str, str] = {}

    def begin(self, key: str, fingerprint: str, *, now: float) -> Fresh | Answer:
        """Take the key, or return its stored answer; other parameters and concurrent use are refused."""
        if len(key) > KEY_CHARACTERS_MAX:
            message = f"Idempotency keys can be at most {KEY_CHARACTERS_MAX} characters."
            raise ApiError(400, message, kind="idempotency_error", executed=False)
        stored = self.stored.get(key)
        if stored is not None and stored.at + KEEP_SECONDS <= now:
            stored = None
        if (stored.fingerprint if stored else self._at_work.get(key, fingerprint)) != fingerprint:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
                f" Try using a key other than '{key}' if you meant to execute a different request."
            )
            raise ApiError(400, message, kind="idempotency_error", executed=False)
        if stored is not None:
            return stored
        if key in self._at_work:
            message = "There is currently another in-progress request using this Idempotent Key"
            raise ApiError(409, message, kind="idempotency_error", code="idempotency_key_in_use", executed=False)
        self._at_work[key] = fingerprint
        return Fresh()

    def settle(self, key: str, status: int, body: str, *, now: float) -> Answer:
        """Store the answer of a key that ``begin`` gave out."""
        answer = Answer(self._at_work.pop(key), status, body, now)
        self.stored[key] = answer
        return answer

    def release(self, key: str) -> None:
        """Give the key back unused; nothing happens if it was settled."""
        self._at_work.pop(key, None)


def fingerprint(method: str, path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return what makes two requests the same: method, path and parameters in any order."""
    return hashlib.sha256(repr((method, path, sorted(pairs))).encode()).hexdigest()
