"""Lists with cursors, newest first (docs.stripe.com/api/pagination). Pure."""

from collections.abc import Callable, Sequence
from typing import Any

from deploy.dev.stripe.errors import ApiError, missing_object

Json = dict[str, Any]

LIMIT_DEFAULT = 10
LIMIT_MAX = 100


def _any(_thing: Json) -> bool:
    return True


def page(newest_first: Sequence[Json], wish: Json, *, url: str, noun: str, fits: Callable[[Json], bool] = _any) -> Json:
    """Return one page of what ``fits``; ``wish`` may hold ``limit``, ``starting_after`` and ``ending_before``.

    ``ending_before`` gives the page next to its cursor on the newer side, still newest first. A cursor is a place among
    all: it need not fit. So whoever asks for undelivered events may begin behind the last one that was delivered
    (docs.stripe.com/webhooks/process-undelivered-events), and goes on behind one that was delivered since.
    """
    after, before = wish.get("starting_after"), wish.get("ending_before")
    if after and before:
        message = "Received both starting_after and ending_before parameters. Please pass in only one."
        raise ApiError(400, message, executed=False)
    limit = wish.get("limit", LIMIT_DEFAULT)
    if before:
        newer = [thing for thing in newest_first[: _place(newest_first, before, "ending_before", noun)] if fits(thing)]
        data, has_more = newer[-limit:], len(newer) > limit
    else:
        behind = _place(newest_first, after, "starting_after", noun) + 1 if after else 0
        rest = [thing for thing in newest_first[behind:] if fits(thing)]
        data, has_more = rest[:limit], len(rest) > limit
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def _place(things: Sequence[Json], cursor: str, param: str, noun: str) -> int:
    for place, thing in enumerate(things):
        if thing["id"] == cursor:
            return place
    raise missing_object(noun, cursor, param=param, status=400)
