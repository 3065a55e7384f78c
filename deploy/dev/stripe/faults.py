"""Faults, armed one by one: calls that fail in a chosen way, events that are never made. No I/O.

Next: ``gate`` takes faults, ``world`` takes losses.
"""

from typing import Generic, Literal, TypeVar

import msgspec

SECONDS_MAX = 24 * 60 * 60

Kind = Literal["error_before", "error_after", "conflict", "rate_limit", "hang_before", "hang_after", "cut"]


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """What happens to the next ``times`` calls of ``route``.

    error_before: 500, and nothing was done. error_after: 500 although it was done; replayed under the same key.
    conflict: 409. rate_limit: 429. hang_before, hang_after: no answer for ``seconds``, then a closed connection, the
    work not done or done. cut: the work is done, the connection breaks in the middle of the answer.
    ``route`` is a method and a path as in README.md, such as ``POST /v1/refunds``.
    """

    route: str
    kind: Kind
    times: int = 1
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.times < 1 or not 0 < self.seconds <= SECONDS_MAX:
            raise ValueError("times must be at least 1, seconds positive and at most a day")

    @property
    def target(self) -> str:
        """What it waits for."""
        return self.route


class Loss(msgspec.Struct, forbid_unknown_fields=True):
    """The next ``times`` events of ``type`` never come to be: no webhook tells of them and no list shows them.

    Stripe admits that this happens (docs.stripe.com/webhooks/handle-irrecoverable-events).
    """

    type: str
    times: int = 1

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError("times must be at least 1")

    @property
    def target(self) -> str:
        """What it waits for."""
        return self.type


T = TypeVar("T", Fault, Loss)


class Armed(Generic[T]):
    """What is armed, first come first served."""

    def __init__(self) -> None:
        self.waiting: list[T] = []

    def take(self, target: str) -> T | None:
        """Return what hits this call or event, and count it."""
        for one in self.waiting:
            if one.target == target:
                one.times -= 1
                if not one.times:
                    self.waiting.remove(one)
                return one
        return None
