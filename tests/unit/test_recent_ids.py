"""What was taken lately is known, what was not is not, and the memory stays as large as it began."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress import recent_ids
from ingress.recent_ids import RecentIds

IDS = st.lists(st.sampled_from([f"evt_{n}" for n in range(30)]))


@given(IDS)
def test_of_one_bucket_the_last_eight_are_known(came):
    """Who comes again is young again; the oldest goes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent_ids, "BUCKETS", 1)
        recent = RecentIds()
        said = [recent.add(one) for one in came]

    known = []
    for one, was_known in zip(came, said, strict=True):
        assert was_known == (one in known)
        known = [*(other for other in known if other != one), one][-recent_ids.IDS_OF_BUCKET :]


def test_two_thousand_are_known_and_no_stranger_is():
    """The ids spread over all buckets; whoever never came is not taken for somebody who did."""
    recent = RecentIds()
    came = [f"evt_1Q{n:022d}" for n in range(2_000)]

    assert not any(recent.add(one) for one in came)
    assert all(recent.add(one) for one in came)


def test_the_memory_does_not_grow(monkeypatch):
    """A process that lives long holds as much as one that has just begun, and the ids themselves not at all."""
    monkeypatch.setattr(recent_ids, "BUCKETS", 4)
    recent = RecentIds()
    one = "evt_" + "x" * 50
    references, [held] = sys.getrefcount(one), vars(recent).values()
    size = held.buffer_info()[1]

    recent.add(one)
    for n in range(1_000):
        recent.add(f"evt_{n}")

    assert held.buffer_info()[1] == size
    assert sys.getrefcount(one) == references
