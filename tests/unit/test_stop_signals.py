"""How work ends that a signal interrupts: cancelled, never cut in the middle of a step of the event loop."""

import asyncio
import os
import signal

import pytest

from deploy.dev.processes import stop_signals


def raising(_number, _frame):
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def raised_while_it_is_kept_up():
    """What a box that is kept up does with these signals."""
    before = {number: signal.signal(number, raising) for number in stop_signals.ENDING}
    yield
    assert {signal.getsignal(number) for number in stop_signals.ENDING} == {raising}
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_nobody_interrupts_returns_its_result():
    assert stop_signals.run(asyncio.sleep(0, "done")) == "done"


@pytest.mark.parametrize("number", stop_signals.ENDING)
def test_a_signal_cancels_and_is_raised(number):
    seen = []

    def a_step_of_the_loop():
        os.kill(os.getpid(), number)
        seen.append("the step was finished")

    async def work():
        asyncio.get_running_loop().call_soon(a_step_of_the_loop)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        stop_signals.run(work())
    assert seen == ["the step was finished", "cleaned up"]


def test_a_signal_is_raised_even_if_the_work_ended_all_the_same():
    async def work():
        os.kill(os.getpid(), signal.SIGINT)
        return "done"

    with pytest.raises(KeyboardInterrupt):
        stop_signals.run(work())


def test_what_goes_wrong_is_raised():
    async def work():
        raise LookupError

    with pytest.raises(LookupError):
        stop_signals.run(work())
