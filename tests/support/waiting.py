"""Waiting for a condition, never for time: with a deadline, and a failure that says what did not come and what came last."""

import asyncio
import time

DEADLINE_SECONDS = 60


async def until(condition, what, *, deadline_seconds=DEADLINE_SECONDS, every_seconds=0.02):
    """Return what `condition()`, plain or async, gives once that is true; `what` names it where it does not come."""
    seen = None
    try:
        async with asyncio.timeout(deadline_seconds) as deadline:
            while not (seen := await _asked(condition)):  # noqa: ASYNC110 - what is awaited tells nobody of itself
                await asyncio.sleep(every_seconds)
    except TimeoutError:
        if not deadline.expired():  # the condition's own, and no answer to it
            raise
        raise AssertionError(_missed(what, deadline_seconds, seen)) from None
    return seen


def until_blocking(condition, what, *, deadline_seconds=DEADLINE_SECONDS, every_seconds=0.05):
    """Likewise where no event loop runs: for processes and threads that are looked at from outside."""
    ends_at = time.monotonic() + deadline_seconds
    while not (seen := condition()):
        if time.monotonic() > ends_at:
            raise AssertionError(_missed(what, deadline_seconds, seen))
        time.sleep(every_seconds)
    return seen


async def _asked(condition):
    answer = condition()
    return await answer if asyncio.iscoroutine(answer) else answer


def _missed(what, deadline_seconds, seen):
    return f"not within {deadline_seconds} s: {what}; seen last: {seen!r}"
