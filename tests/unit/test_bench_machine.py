"""Which rounds of the bench count: none in which the machine, not the product, was slow or stood still."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.bench import machine
from tests.bench.machine import Seen
from tests.journey.pipeline import ROOT

WATCHING = (
    "from tests.bench import machine\nwith machine.watched() as seen: print(flush=True); input()\nprint(seen.still_seconds)"
)


def test_a_slower_round_and_one_that_stood_still_do_not_count():
    rounds = [
        (Seen(0.04), "usual"),
        (Seen(0.051), "slower"),
        (Seen(0.04, still_seconds=44.0), "still"),
        (Seen(0.04), "usual, too"),
    ]
    assert machine.quiet(rounds) == ["usual", "usual, too"]


def test_a_bench_without_a_quiet_round_says_so():
    with pytest.raises(SystemExit, match=r"no round counts.*stood still 9\.0 s"):
        machine.quiet([(Seen(0.04, still_seconds=9.0), "still")])


def test_a_pause_of_the_machine_is_seen():
    paused_seconds = 0.4
    command = (sys.executable, "-c", WATCHING)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watching:
        watching.stdout.readline()
        os.kill(watching.pid, signal.SIGSTOP)
        time.sleep(paused_seconds)  # not a condition that is awaited: the pause itself
        os.kill(watching.pid, signal.SIGCONT)
        told, _ = watching.communicate("\n")
    assert float(told) > paused_seconds / 2
