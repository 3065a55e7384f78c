"""The tests' way of waiting: what it gives back, and what it says when nothing comes."""

import itertools

import pytest

from tests.support.waiting import until, until_blocking


async def test_what_came_is_given_back():
    """By a plain condition and by an async one, as soon as it is true."""
    counted = itertools.count()

    async def third():
        return next(counted) // 3

    assert await until(lambda: next(counted) // 3, "it is three", every_seconds=0) == 1
    assert await until(third, "it is three", every_seconds=0) == 1
    assert until_blocking(lambda: next(counted) // 9, "it is nine", every_seconds=0) == 1


async def test_what_does_not_come_is_named_with_what_was_seen_last():
    """Whoever reads the failure need not run the test again to know how far it came."""
    missed = r"^not within 0.01 s: three letters are sent; seen last: \[\]$"

    with pytest.raises(AssertionError, match=missed):
        await until(list, "three letters are sent", deadline_seconds=0.01, every_seconds=0)
    with pytest.raises(AssertionError, match=missed):
        until_blocking(list, "three letters are sent", deadline_seconds=0.01, every_seconds=0)


async def test_a_condition_that_breaks_is_not_waited_for():
    """A timeout of its own is its own fault, told as it is."""

    def broken():
        raise TimeoutError("of the mailbox")

    with pytest.raises(TimeoutError, match="of the mailbox"):
        await until(broken, "a letter is there")
