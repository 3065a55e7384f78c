"""Lists with cursors, newest first (docs.stripe.com/api/pagination). Pure."""

from collections.abc import Sequence
from typing import Any

from deploy.dev.stripe.errors import ApiError, missing_object

Json = dict[str, Any]

LIMIT_DEFAULT = 10
LIMIT_MAX = 100


def page(newest_first: Sequence[Json], wish: Json, *, url: str, noun: str) -> Json:
    """Return one page; ``wish`` may hold ``limit``, ``starting_after`` and ``ending_before``.

    ``ending_before`` gives the page next to its cursor on the newer side, still newest first.
    """
    after, before = wish.get("starting_after"), wish.get("ending_before")
    if after and before:
        message = "Received both starting_after and ending_before parameters. Please pass in only one."
        raise ApiError(400, message, executed=False)
    limit = wish.get("limit", LIMIT_DEFAULT)
    if before:
        newer = newest_first[: _place(newest_first, before, "ending_before", noun)]
        data, has_more = newer[-limit:], len(newer) > limit
    else:
        rest = newest_first[_place(newest_first, after, "starting_after", noun) + 1 :] if after else newest_first
        data, has_more = rest[:limit], len(rest) > limit
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def _place(things: Sequence[Json], cursor: str, param: str, noun: str) -> int:
    for place, thing in enumerate(things):
        if thing["id"] == cursor:
            return place
    raise missing_object(noun, cursor, param=param, status=400)
