"""What a process writes: one JSON object a line, whatever a stranger put into a value, and nothing that is not on the list."""

import json
import os
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

# What asyncpg, FastStream, asyncio and Python itself say of an error that quotes a row. No line that raises names the address:
# from 3.13 on a traceback shows lines of a program that came by -c, too.
BREAKS = """
import asyncio, gc, logging, threading
import asyncpg
from shared import errors, logs

logs.configure("tests")
address = "mara@example.com"
row = asyncpg.CheckViolationError("no mara@example.com here")
row.detail, row.table_name, row.constraint_name = "Failing row contains (mara@example.com).", "payments", "invoiced"

def fail():
    try:
        raise row
    except asyncpg.PostgresError as error:
        raise ExceptionGroup(address, [KeyError(address), errors.KafkaAway("0 of 3 brokers")]) from error

class Dropped:
    def __del__(self):
        fail()

async def unheard():
    task = asyncio.get_running_loop().create_task(asyncio.to_thread(fail))
    await asyncio.wait([task])
    del task
    gc.collect()

try:
    fail()
except Exception as error:
    logs.get("ours").exception("thing.broke")
    logging.getLogger("library").error("%s: %s", type(error).__name__, error, exc_info=error)
    logging.getLogger("another").error("%r", row, exc_info=row)
    logging.getLogger("a third").error("%s, since %s and %s", error, error.__cause__, error.exceptions[0], exc_info=error)
asyncio.run(unheard())
thread = threading.Thread(target=fail)
thread.start()
thread.join()
dropped = Dropped()
del dropped
fail()
"""


def lines(**fields):
    arguments = [part for name, value in fields.items() for part in (name, repr(value))]
    process = subprocess.run([sys.executable, "-c", WRITES, *arguments], capture_output=True, check=True)
    return [json.loads(line) for line in process.stderr.splitlines()]


def test_ours_and_a_library_s_lines_have_one_form():
    done, broke, said = lines(count=1, event_id="evt_1")

    assert (done["event"], done["logger"], done["level"], done["count"]) == ("thing.done", "tests.module", "info", 1)
    assert (broke["event"], broke["level"]) == ("thing.broke", "error")
    assert broke["exception"].startswith("Traceback (most recent call last):")
    assert (said["event"], said["logger"], said["level"]) == ("said so", "library", "warning")
    assert {line["process"] for line in (done, broke, said)} == {"tests"}
    assert all(line["timestamp"].endswith("Z") for line in (done, broke, said))


def test_a_library_s_line_that_cannot_be_made_is_nobody_s_failure():
    """Nor does anybody hear what it was made of; the lines after it are written."""
    breaks = "logs.configure('tests'); library = logging.getLogger('library')"
    logs_it = "library.error('%s of %d', 'mara@example.com', 'one'); library.error('well')"
    program = f"import logging; from shared import logs; {breaks}; {logs_it}"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    broke, well = (json.loads(line) for line in process.stderr.splitlines())

    assert (broke["event"], broke["kind"], broke["error"]) == ("log_line.broke", "library", "TypeError")
    assert well["event"] == "well"
    assert "mara" not in process.stderr.decode()


def test_what_nobody_can_write_is_lost_and_counted_and_nothing_fails_of_it():
    """A full disk, or a reader that ended: a batch whose refusal could not be told would be put back, and refused for ever."""
    reader, writer = os.pipe()
    os.close(reader)
    counts = "\nfrom shared import metrics\nprint(metrics.log_lines_lost._value.get())"
    process = subprocess.run([sys.executable, "-c", WRITES + counts], stdout=subprocess.PIPE, stderr=writer, check=True)
    os.close(writer)

    assert float(process.stdout) == 3


REPEATS = """
import logging
from shared import clock, logs

logs.configure("tests")
library, now = logging.getLogger("library"), 0.0
clock.monotonic = lambda: now
for now in (0.0, 59.0, 61.0):
    for number in range(100):
        library.error("commit of partition %d failed", number)
    library.error("said once")
"""


def test_what_a_library_says_without_end_is_said_twenty_times_a_minute_and_counted():
    """A hundred lines a second, for as long as a broker is away, fill a disk; what is said seldom is said among them."""
    process = subprocess.run([sys.executable, "-c", REPEATS], capture_output=True, check=True)
    told = [json.loads(line) for line in process.stderr.splitlines()]

    assert [line["event"] for line in told].count("said once") == 3
    assert [line["count"] for line in told if line["event"] == "log_line.repeated"] == [180]
    assert len(told) == 2 * 20 + 3 + 1


TELLS_MUCH = """
import asyncio, sys
from shared import logs, metrics

logs.configure("tests")
log = logs.get("tests.module")

async def main():
    for number in range(12_000):
        log.info("thing.done", count=number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    print(int(metrics.log_lines_lost._value.get()), flush=True)
    sys.stdin.readline()
    while logs.OUTLET._unwritten:
        await asyncio.sleep(0.01)
    log.error("thing.ended", reason="x" * 10_000)

asyncio.run(main())
"""


def test_a_reader_that_stands_still_makes_nobody_wait_and_costs_only_what_a_megabyte_cannot_hold():
    """A full pipe would stop the event loop, and with it every answer; what came before is read later, each line whole."""
    with subprocess.Popen(
        [sys.executable, "-c", TELLS_MUCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        lost = int(process.stdout.readline())
        process.stdin.close()
        told = [json.loads(line) for line in process.stderr]

    assert process.returncode == 0
    assert told[-1]["event"] == "thing.ended"
    assert 0 < lost == 12_000 - len(told[:-1])
    assert [line["count"] for line in told[:-1]] == list(range(len(told) - 1))


def test_who_ends_while_nobody_reads_ends():
    """Its last lines have a second."""
    program = "from shared import logs; logs.configure('tests'); log = logs.get('x'); [log.error('e') for _ in range(5_000)]"
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 0
        told = process.stderr.read().count(b"\n")

    assert 100 < told < 5_000


def test_what_was_said_last_is_heard_by_who_begins_to_read_at_the_end():
    """It is more than a pipe holds: who ends has it read first."""
    says = "logs.LAST_WORDS_SECONDS_MAX = 60; [log.error('e') for _ in range(5_000)]; log.info('ended'); print(flush=True)"
    program = f"from shared import logs; logs.configure('tests'); log = logs.get('x'); {says}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        told = [json.loads(line)["event"] for line in process.stderr]

    assert told == ["e"] * 5_000 + ["ended"]


INTERRUPTS = """
import os
from shared import logs

logs.configure("tests")
log, write = logs.get("tests.module"), os.write

def interrupted(file, lines):
    os.write = write
    log.error("collected.broke")
    return write(file, lines)

os.write = interrupted
log.error("thing.done")
log.error("thing.ended")
"""


def test_what_is_said_in_the_middle_of_a_line_neither_cuts_nor_repeats_it_nor_stops_the_process():
    """The collector may end something that logs at any moment, also while a line is written."""
    process = subprocess.run([sys.executable, "-c", INTERRUPTS], capture_output=True, check=True, timeout=60)

    told = [json.loads(line)["event"] for line in process.stderr.splitlines()]
    assert told == ["thing.done", "collected.broke", "thing.ended"]


def test_a_value_that_is_not_on_the_list_is_withheld():
    done, *_ = lines(count=1, email="mara@example.com")

    assert done["email"] == logs.WITHHELD
    assert "mara" not in json.dumps(done)


def test_an_error_is_told_without_what_it_quotes():
    """Whoever tells it: we, a library, asyncio of a task that nobody awaited, Python of threads, what it lets go, its end."""
    process = subprocess.run([sys.executable, "-c", BREAKS], capture_output=True, check=False)
    told = [json.loads(line) for line in process.stderr.splitlines()]

    assert process.returncode == 1
    assert "mara" not in process.stderr.decode()
    assert [line["event"] for line in told] == [
        "thing.broke",
        "ExceptionGroup: [withheld]",
        "[withheld]",
        "[withheld], since [withheld] and [withheld]",
        "Task exception was never retrieved",
        "thread.died",
        "error.ignored",
        "process.died",
    ]
    for line in (told[0], *told[3:]):
        words = [words for words in line["exception"].splitlines() if words and not words.startswith((" ", "Traceback"))]
        assert [kind for kind in words if kind != "which led to:"] == [
            "asyncpg.exceptions.CheckViolationError: 23514 payments invoiced [withheld]",
            "shared.errors.KafkaAway: 0 of 3 brokers",
            "KeyError: [withheld]",
            "ExceptionGroup: [withheld]",
        ]
        assert "in fail" in line["exception"]


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
