"""A process that has done its work ends, whatever its event loop still waits for."""

import json
import subprocess
import sys

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
