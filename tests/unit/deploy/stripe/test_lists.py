"""Cursors walk a list from both sides without losing or repeating anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from deploy.dev.stripe import lists
from deploy.dev.stripe.errors import ApiError

THINGS = [{"id": f"evt_{number}"} for number in range(25, 0, -1)]


def page(**wish):
    return lists.page(THINGS, wish, url="/v1/events", noun="event")


@given(some.integers(min_value=1, max_value=100))
def test_paging_forward_sees_everything_once(limit):
    """starting_after, over and over, is the whole list, newest first."""
    seen, more, wish = [], True, {"limit": limit}
    while more:
        got = page(**wish)
        seen, more = seen + got["data"], got["has_more"]
        wish["starting_after"] = seen[-1]["id"]

    assert seen == THINGS


@given(some.integers(min_value=1, max_value=100))
def test_paging_backward_sees_everything_once(limit):
    """ending_before, from the oldest on, is the same list; each page newest first and next to its cursor."""
    seen, more = [THINGS[-1]], True
    while more:
        got = page(limit=limit, ending_before=seen[0]["id"])
        seen, more = got["data"] + seen, got["has_more"]

    assert seen == THINGS


@pytest.mark.parametrize("wish", [{"starting_after": "x"}, {"starting_after": "evt_1", "ending_before": "evt_2"}])
def test_bad_cursors_are_refused(wish):
    """An unknown cursor, or both."""
    with pytest.raises(ApiError) as refused:
        page(**wish)

    assert refused.value.status == 400
