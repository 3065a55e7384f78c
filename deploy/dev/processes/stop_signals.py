"""What ends a command that keeps something up, and how asyncio's work ends then: cancelled, in good order.

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
    """Return the signals that end what keeps something up; under nohup the end of a terminal is none of them."""
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in ENDING if not (is_deaf and number is signal.SIGHUP)]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, in the main thread. A signal that ends us cancels it, and is then raised as KeyboardInterrupt.

    An exception that a signal handler raises may hit the event loop between two of its steps: whoever was to be woken by them
    would never wake, and the loop wait for it for ever. asyncio.run knows that of SIGINT, unless somebody handles it.
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
