"""How often one person may knock. Pure: the moment is an argument.

Enters: who, and when. Leaves: None, or the seconds to wait. A window slides over the moments themselves, since a
counter for each whole second lets through as many as there are requests in it.
"""

import math
from collections import OrderedDict, deque
from uuid import UUID

USERS_REMEMBERED_MAX = 10_000  # a few megabytes; who is forgotten was the longest ago


class RateLimit:
    """At most `count` admissions per user in any `seconds`; lives in one process and ends with it."""

    def __init__(self, *, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._admitted: OrderedDict[UUID, deque[float]] = OrderedDict()

    def admit(self, user_id: UUID, now_seconds: float) -> int | None:
        """Count one knock and return None, or return after how many whole seconds the next may pass.

        A refused knock is not counted, so that impatience does not prolong itself. `now_seconds` never goes back.
        """
        admitted = self._admitted.setdefault(user_id, deque())
        self._admitted.move_to_end(user_id)
        while admitted and admitted[0] <= now_seconds - self._seconds:
            admitted.popleft()
        if len(admitted) >= self._count:
            return max(1, math.ceil(admitted[0] + self._seconds - now_seconds))
        admitted.append(now_seconds)
        if len(self._admitted) > USERS_REMEMBERED_MAX:
            self._admitted.popitem(last=False)
        return None
