"""A process ends by a signal, or by a fault that only a restart mends, whatever its event loop still waits for."""

import asyncio
import json
import subprocess
import sys

import pytest

from shared import ending

ENDS = """
import sys
import threading

import uvloop

from shared import ending, logs


class Waiting(uvloop.Loop):
    def close(self):
        threading.Event().wait()


async def life():
    return 5


uvloop.new_event_loop = Waiting
logs.configure("tests")
sys.exit(ending.run_to_the_end(life()))
"""
ENDS_WITHIN_SECONDS = 60


def test_a_loop_that_does_not_close_keeps_no_process_and_changes_no_status():
    """uvloop closes only when every name that was looked up is answered for; a silent resolver takes half a minute."""
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, check=False, timeout=ENDS_WITHIN_SECONDS)

    assert ended.returncode == 5
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()] == ["process.closed_hard"]


async def test_a_process_that_makes_no_progress_ends_itself(monkeypatch):
    """Nobody may be there to ask whether it lives."""
    monkeypatch.setattr(ending, "LIVENESS_EVERY_SECONDS", 0.01)
    answers = iter([[], [], ["the fetch task ended", "the producer's sender task ended"]])

    async def faults():
        return next(answers)

    end = ending.End()
    async with asyncio.timeout(10):
        await end.until_over(faults)

    assert isinstance(end.fatal.result(), ending.NotAlive)
    assert str(end.fatal.result()) == "the fetch task ended; the producer's sender task ended"
    assert end.stopping.is_set()
    assert end.status() == 1


async def test_a_fault_that_comes_meanwhile_is_not_replaced_by_its_consequences():
    end = ending.End()

    async def faults():
        end.fatal.set_result(RuntimeError("the cause"))
        return ["a consequence"]

    await end.until_over(faults)

    assert str(end.fatal.result()) == "the cause"


async def test_a_check_that_breaks_leaves_the_end_limited_in_time():
    """The error is told by whoever runs the process; until then nothing may hold it up."""
    end = ending.End()

    async def faults():
        raise LookupError

    with pytest.raises(LookupError):
        await end.until_over(faults)

    assert end.stopping.is_set()
