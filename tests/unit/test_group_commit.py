"""Callers that share a transaction: each gets its own result, or what went wrong; none waits for ever."""

import asyncio

import pytest

from consumers.email.group_commit import GroupCommit


async def ask_all(group, requests):
    async with asyncio.timeout(5):
        return await asyncio.gather(*(group.ask(one) for one in requests), return_exceptions=True)


async def test_each_caller_gets_its_own_result_of_one_transaction():
    """In the order of the requests."""
    transactions = []

    async def work(requests):
        transactions.append(list(requests))
        return [-one for one in requests]

    assert await ask_all(GroupCommit(work), [1, 2, 3]) == [-1, -2, -3]
    assert transactions == [[1, 2, 3]]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_wrong_number_of_results_is_raised_to_every_caller(count):
    """Which result is whose cannot be known, and the next callers are served."""
    wrong = True

    async def work(requests):
        return [0] * count if wrong else list(requests)

    group = GroupCommit(work)
    failed = await ask_all(group, [1, 2])
    wrong = False

    assert [type(one) for one in failed] == [ValueError, ValueError]
    assert await ask_all(group, [3]) == [3]
