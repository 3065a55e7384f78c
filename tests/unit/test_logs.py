"""What a process writes: one JSON object a line, whatever a stranger put into a value, and nothing that is not on the list."""

import json
import subprocess
import sys
from datetime import datetime

import pytest

from shared import clock, logs

WRITES = """
import logging, sys, uuid
from shared import logs

logs.configure("tests")
log = logs.get("tests.module")
log.info("thing.done", **{name: eval(value) for name, value in zip(sys.argv[1::2], sys.argv[2::2])})
log.debug("thing.looked_at")
try:
    raise ValueError("broken")
except ValueError:
    log.exception("thing.broke")
logging.getLogger("library").warning("said %s", "so")
logging.getLogger("aiokafka").info("chatter")
"""


def lines(**fields):
    arguments = [part for name, value in fields.items() for part in (name, repr(value))]
    process = subprocess.run([sys.executable, "-c", WRITES, *arguments], capture_output=True, check=True)
    return [json.loads(line) for line in process.stderr.splitlines()]


def test_ours_and_a_library_s_lines_have_one_form():
    done, broke, said = lines(count=1, event_id="evt_1")

    assert (done["event"], done["logger"], done["level"], done["count"]) == ("thing.done", "tests.module", "info", 1)
    assert (broke["event"], broke["level"]) == ("thing.broke", "error")
    assert broke["exception"].endswith("ValueError: broken")
    assert (said["event"], said["logger"], said["level"]) == ("said so", "library", "warning")
    assert {line["process"] for line in (done, broke, said)} == {"tests"}
    assert all(line["timestamp"].endswith("Z") for line in (done, broke, said))


def test_a_value_that_is_not_on_the_list_is_withheld():
    done, *_ = lines(count=1, email="mara@example.com")

    assert done["email"] == logs.WITHHELD
    assert "mara" not in json.dumps(done)


@pytest.mark.parametrize(
    "value", ["half a pair \ud800", 2**80, "two\nlines\r\x00", None], ids=["surrogate", "long integer", "control", "nothing"]
)
def test_whatever_a_stranger_put_into_a_value_the_line_is_one_object(value):
    done, *_ = lines(reason=value)

    assert done["reason"] == value


def test_a_line_tells_its_moment_to_the_microsecond(monkeypatch):
    """In a second that is new, again in the same one, and where its digits begin with zeros."""
    before, stamped, after = clock.now(), clock.stamp(), clock.now()
    assert before <= datetime.fromisoformat(stamped) <= after

    for nanoseconds, told in ((42_999, "00.000042Z"), (7_000_000, "00.007000Z"), (1_000_000_000, "01.000000Z")):
        monkeypatch.setattr(clock.time, "time_ns", lambda moment=nanoseconds: moment)
        assert clock.stamp() == f"1970-01-01T00:00:{told}"
