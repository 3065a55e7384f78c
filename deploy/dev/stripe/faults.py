"""Bad days of the API, armed one by one: the next calls of a route fail in a chosen way. No I/O. Next: ``gate``."""

from typing import Literal

import msgspec

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
        if self.times < 1 or self.seconds <= 0:
            raise ValueError("times must be at least 1 and seconds positive")


class Faults:
    """The faults that are armed, first come first served."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []

    def take(self, route: str) -> Fault | None:
        """Return the fault that hits this call of ``route``, and count it."""
        for fault in self.armed:
            if fault.route == route:
                fault.times -= 1
                if not fault.times:
                    self.armed.remove(fault)
                return fault
        return None
