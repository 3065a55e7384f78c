"""The signals that stop a long-running command, and how asyncio's work ends then: cancelled, with its clean-up done.

Enters: a coroutine. Leaves: its result, or KeyboardInterrupt once it was cancelled and has cleaned up.
Next: box/control.py keeps a box up until one of these signals comes.
"""

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

# The last is a terminal that was closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def signals() -> list[signal.Signals]:
    """Return the signals that stop a command; under nohup, SIGHUP is not among them."""
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in ENDING if not (is_deaf and number is signal.SIGHUP)]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, in the main thread; a stop signal cancels it, and is then raised as KeyboardInterrupt.

    An exception raised by a signal handler may interrupt the event loop between two of its steps. A task that these would have
    woken never wakes, and the loop waits for it for ever. asyncio.run avoids that for SIGINT, unless somebody handles it.
    """
    heard: list[int] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(work)

        def interrupt(number: int, _frame: FrameType | None) -> None:
            heard.append(number)
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        before = {number: signal.signal(number, interrupt) for number in signals()}
        try:
            result = loop.run_until_complete(task)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            runner.close()
            for number, handler in before.items():
                signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt
    return result
