"""Ten a minute means ten in any minute, per user."""

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from ingress import limits
from ingress.limits import RateLimit

USER = uuid4()


def test_the_eleventh_waits_until_the_first_is_a_minute_old():
    """The window slides over the moments themselves, also those of one second."""
    limit = RateLimit(count=10, seconds=60)
    assert [limit.admit(USER, 100 + at / 100) for at in range(10)] == [None] * 10

    assert limit.admit(USER, 100.5) == 60
    assert limit.admit(USER, 159.9) == 1
    assert limit.admit(USER, 160.001) is None
    assert limit.admit(USER, 160.002) == 1


def test_people_do_not_share_a_limit():
    """One who is impatient takes nothing from another."""
    limit = RateLimit(count=1, seconds=60)
    assert limit.admit(USER, 0) is None

    assert limit.admit(uuid4(), 0) is None
    assert limit.admit(USER, 0) == 60


def test_only_so_many_people_are_remembered(monkeypatch):
    """However many people come, only so many are remembered."""
    monkeypatch.setattr(limits, "USERS_COUNTED_MAX", 3)
    limit = RateLimit(count=1, seconds=60)
    for _ in range(10):
        limit.admit(uuid4(), 0)

    assert len(limit._admitted) == 3


@given(st.lists(st.floats(0, 100), max_size=80))
def test_no_window_holds_more_than_the_limit(gaps):
    """Whatever the rhythm, any 60 seconds hold at most ten admissions, and whoever waits as told is let in."""
    limit, now, admitted = RateLimit(count=10, seconds=60), 0.0, []
    for gap in gaps:
        now += gap
        wait = limit.admit(USER, now)
        if wait is not None:
            now += wait
            assert limit.admit(USER, now) is None
        admitted.append(now)

    for at, moment in enumerate(admitted):
        assert sum(moment <= other < moment + 60 for other in admitted[at:]) <= 10
