"""A box that cb-dev keeps up in the background: what the commands say of it, what crashes, who is killed, what is removed.

One folder for all; whichever test finds its box down brings it up first, as a person does.
"""

import os
import shutil
import signal

import psutil
import pytest

from deploy.dev.box import control
from deploy.dev.services import database
from deploy.dev.state import Box
from deploy.dev.terminal import Silence
from tests.journey import demos
from tests.journey.kept import found, leave_something, spoil_the_database
from tests.support.waiting import until_blocking


class Kept:
    """The box in a folder, and the commands about it."""

    def __init__(self, home):
        self.box = Box(home)

    def cb_dev(self, *words, expect=0):
        """What a command says, at the end of which its status is `expect`."""
        status, said = demos.run_here(*words, folder=self.box.home)
        assert status == expect, said
        return said

    def up(self):
        """Bring it up where it is down, by the command itself; what was said then."""
        if control.is_up(self.box):
            return ""
        status, said = demos.run("up", "--services-only", "--detach", folder=self.box.home)
        assert status == 0, said
        return said

    def pids(self):
        """What it runs on."""
        return [note["pid"] for note in self.box.read("processes").values()]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A box in a folder of an odd name, which no command has seen yet; whatever it is at the end, it is removed.

    The shell speaks of no encoding, as in a container.
    """
    one = Kept(tmp_path_factory.mktemp("kept") / r"José's box [1], a\b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "C")
        yield one
    control.reset(one.box, Silence())


def test_the_commands_tell_one_story(kept):
    """up leaves it running, env and status tell it, a second up joins, down ends it, status says so, reset forgets."""
    assert "is not up" in kept.cb_dev("env", expect=1)
    assert "stays up" in kept.up()
    variables = dict(line.removeprefix("export ").split("=", 1) for line in kept.cb_dev("env").splitlines())
    assert variables["KAFKA_BOOTSTRAP_SERVERS"] in kept.cb_dev("status")
    assert "joined" in kept.cb_dev("up", "--services-only")
    assert "services only" in kept.cb_dev("up", expect=1)
    status, down = demos.run("down", folder=kept.box.home)
    assert (status, "is down" in down) == (0, True), down
    assert "earlier run" not in down
    assert demos.left_running(kept.box.home) == []
    assert "is down" in kept.cb_dev("status", expect=1)
    assert "was not up" in kept.cb_dev("down")
    kept.cb_dev("reset")
    assert not (kept.box.home / "secrets.json").exists()


def test_what_crashes_is_started_again(kept):
    """While cb-dev runs, a killed database or broker is back within seconds, and a line says so."""
    kept.up()
    before = kept.pids()
    log = kept.box.logs / control.SUPERVISOR_LOG
    began = len(log.read_text())
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    until_blocking(lambda: log.read_text()[began:].count("is ready again") == len(before), "both are ready again")

    assert log.read_text()[began:].count("ended by signal 9; starting it again") == len(before) == 2
    assert not set(before) & set(kept.pids())
    assert not [pid for pid in before if psutil.pid_exists(pid)]


async def test_kill_9_of_cb_dev_needs_no_cleaning(kept):
    """The next start ends what was left over, be it noted or born just before the kill, and finds the data."""
    kept.up()
    mark = await leave_something(control.environment_of(kept.box))
    noted, left = kept.box.read("processes"), kept.pids()
    os.kill(kept.box.read("box")["pid"], signal.SIGKILL)
    until_blocking(lambda: not control.is_up(kept.box), "cb-dev is gone")
    kept.box.write("processes", {"database": noted["database"]})

    assert all(psutil.pid_exists(pid) for pid in left)
    said = kept.up()

    assert said.count("ended what an earlier run had left") == len(left) == 2
    assert not any(psutil.pid_exists(pid) for pid in left)
    assert await found(control.environment_of(kept.box), mark) == ([mark], mark)


def test_a_box_whose_folder_was_removed_can_be_ended(kept):
    """Somebody tidied up while it was up: its keeper goes, too, and all that it had started."""
    kept.up()
    began = demos.left_running(kept.box.home)
    shutil.rmtree(kept.box.home)
    control.down(kept.box, Silence())

    assert len(began) > 2
    assert demos.left_running(kept.box.home) == []
    database.remove(kept.box)


def test_a_detached_start_that_fails_says_why(tmp_path):
    """The reason reaches the terminal of who asked, not only a log."""
    box = Box(tmp_path / "box")
    spoil_the_database(box)
    try:
        status, said = demos.run("up", "--services-only", "--detach", folder=box.home)
    finally:
        control.reset(box, Silence())

    assert status == 1
    assert "postgresql.conf" in said
    assert "database.log" in said
