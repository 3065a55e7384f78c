"""Limits how many requests a user may make. Pure: the time is an argument.

Enters: the user, and the time. Leaves: None, or the seconds to wait. The window slides over the exact times, since a counter
for each whole second would let through as many requests as came in that second.
"""

import math
from collections import OrderedDict, deque
from uuid import UUID

USERS_COUNTED_MAX = 10_000  # a few megabytes; the user whose last request is the oldest is forgotten


class RateLimit:
    """At most `count` admissions per user in any `seconds`; lives in one process and ends with it."""

    def __init__(self, *, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._admitted: OrderedDict[UUID, deque[float]] = OrderedDict()

    def admit(self, user_id: UUID, now_seconds: float) -> int | None:
        """Count one request and return None, or return after how many whole seconds the next is allowed.

        A refused request is not counted, so that impatience does not prolong the wait. `now_seconds` never goes back.
        """
        admitted = self._admitted.setdefault(user_id, deque())
        self._admitted.move_to_end(user_id)
        while admitted and admitted[0] <= now_seconds - self._seconds:
            admitted.popleft()
        if len(admitted) >= self._count:
            return max(1, math.ceil(admitted[0] + self._seconds - now_seconds))
        admitted.append(now_seconds)
        if len(self._admitted) > USERS_COUNTED_MAX:
            self._admitted.popitem(last=False)
        return None
