"""The commands of the box where a stranger's first steps lead: wrong folders, odd names, a bad moment."""

import asyncio
import contextlib
import functools
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import aiohttp
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from deploy.dev.box import control
from deploy.dev.commands import overview
from deploy.dev.commands.cli import app
from deploy.dev.errors import BoxError
from deploy.dev.mailbox import open_mailbox, wording
from deploy.dev.processes import process
from deploy.dev.seed import store, token
from deploy.dev.state import Box
from deploy.dev.terminal import Silence, Voice
from tests.journey.demos import DEADLINE_SECONDS, Said
from tests.support.waiting import until_blocking

HOLDS = """
import sys, time
from pathlib import Path
from deploy.dev.state import Box
box = Box(Path(sys.argv[1]))
box.take()
print("taken", flush=True)
time.sleep(60)
"""
AWAY = "postgresql+asyncpg://cb@127.0.0.1:1/nothing"
# Loads the command as its script does; Ctrl-C comes while it does so.
INTERRUPTED = """
import importlib.metadata, os, signal, sys

class CtrlC:
    def find_spec(self, name, *_):
        if name == "deploy.dev.commands.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, CtrlC())
[entry] = importlib.metadata.entry_points(group="console_scripts", name="cb-dev")
entry.load()()
"""
# Keeps a box up that has no pieces: how it is ended is the same.
KEEPS_UP = """
import contextlib, signal, sys
from pathlib import Path
from deploy.dev.box import control
from deploy.dev.services.stack import Services
from deploy.dev.terminal import Silence

class Empty(Services):
    def bring_up(self):
        pass

    def environment(self):
        return {}

control.Services = Empty
with contextlib.suppress(KeyboardInterrupt), control.kept_up(Path(sys.argv[1]), Silence(), services_only=True):
    print("deaf" if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else "up", flush=True)
    control.wait_for_ever()
"""
# Downloads beside the main thread, which does not wait for it, as a box that is being ended.
FETCHES = """
import threading
from deploy.dev.jars import cache
from deploy.dev.terminal import Voice
threading.Thread(target=cache.ensure, args=(Voice(),), daemon=True).start()
try:
    threading.Event().wait()
except KeyboardInterrupt:
    print("goodbye", flush=True)
"""


def cb_dev(*words):
    return CliRunner().invoke(app, [*map(str, words)])


@contextlib.contextmanager
def held(box):
    """Another process that has taken the box, and has noted nothing of itself."""
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(box.home)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "taken\n"
        yield other
    finally:
        other.kill()
        other.communicate()


@contextlib.contextmanager
def kept_up(folder, *, at_hangup):
    """A keeper of an empty box, up, with what it says then; `at_hangup` is what it was born with."""
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPS_UP, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGHUP, at_hangup),  # noqa: PLW1509 - one call of the system, which takes no lock
    )
    try:
        yield keeper, keeper.stdout.readline()
    finally:
        keeper.kill()
        keeper.communicate()


@contextlib.contextmanager
def stranger():
    """A process that has nothing to do with any box."""
    one = subprocess.Popen(["sleep", "60"])
    try:
        yield one
    finally:
        one.kill()
        one.wait()


def test_reset_removes_nothing_where_no_box_was(tmp_path):
    """A folder that was named by mistake may hold a mailbox or a database of somebody's own."""
    for name in ("mailbox", "sandbox", "broker", "database", "keys"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dear.txt").touch()
    (tmp_path / "ports.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    ran = cb_dev("reset", "--dir", tmp_path)

    assert "nothing was removed" in ran.output.replace("\n", "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", [["status"], ["env"], ["down"], ["token", "--as", "client"], ["stripe", "show"]])
def test_looking_at_a_folder_leaves_nothing_in_it(tmp_path, words):
    """Be it there or not."""
    for folder in (tmp_path, tmp_path / "none"):
        cb_dev(*words, "--dir", folder)

    assert not list(tmp_path.iterdir())


def test_there_is_no_token_where_no_box_is(tmp_path):
    """One that was signed with a secret of its own would be good for nothing, and look as if it were."""
    with pytest.raises(BoxError, match="there is no box in"):
        token.issue(Box(tmp_path / "none"), "client")


@pytest.mark.parametrize(
    "words", [["status"], ["env"], ["up"], ["up", "--detach"], ["token", "--as", "client"], ["demo"], ["stripe", "show"]]
)
@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_named_in_one_line(tmp_path, words, where):
    """A file of that name, or somewhere above it, is no box."""
    (tmp_path / "file").touch()
    ran = cb_dev(*words, "--dir", tmp_path / where)

    assert isinstance(ran.exception, BoxError | SystemExit), ran.exception
    assert "file" in str(ran.exception) + ran.output
    assert ran.exit_code != 0


def test_a_folder_that_looks_like_markup_is_said_as_it_is(tmp_path):
    """Else the path of a log, copied from the terminal, leads nowhere."""
    ran = cb_dev("status", "--dir", tmp_path / "a [box] of [/mine]")

    assert "a [box] of [/mine]" in ran.output.replace("\n", "")


def test_what_is_to_be_typed_next_is_about_this_box(tmp_path, monkeypatch):
    """A reset that was told for this box must not empty the one of the project."""
    box = Box(tmp_path / "an other")

    assert box.command("reset") == f"cb-dev reset --dir '{box.home}'"
    assert Box().command("reset") == "cb-dev reset"
    with pytest.raises(BoxError, match=r"cb-dev up --detach --dir '.*/an other'"):
        control.environment_of(box)
    monkeypatch.setattr(sys, "argv", ["/home/ada/our project/.venv/bin/cb-dev", "up"])
    assert Box().command("down") == "'/home/ada/our project/.venv/bin/cb-dev' down"


def test_a_box_without_its_logs_is_a_box(tmp_path):
    """Somebody made room while it was up."""
    box = Box(tmp_path)
    with held(box):
        box.write("ports", {"database": 5432})
        box.logs.rmdir()
        assert box.is_taken()

    cb_dev("reset", "--dir", tmp_path)
    assert box.read("ports") == {}


def test_a_box_on_its_way_is_not_called_a_crash(tmp_path, capsys):
    """What it has started so far is nothing that was left over."""
    box = Box(tmp_path)
    with held(box):
        shown = overview.show(box, control.Voice())

    assert not shown
    assert "on its way" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["story"], ["stripe", "show"], ["demo"]])
def test_services_alone_are_told_apart_from_a_whole_box(tmp_path, words):
    """Nothing can be bought, and no sandbox disturbed, where there is none: one line says how to get all of it."""
    box = Box(tmp_path)
    box.make_logs()
    box.write("secrets", {"JWT_SECRET_KEY": "x" * 32})
    with held(box):
        box.write(
            "box", {"pid": 1, "ready": True, "whole": False, "environment": {"DATABASE_URL": AWAY}, "database_folder": "-"}
        )
        ran = cb_dev(*words, "--dir", tmp_path)

    assert "is up with services only; for all of it: cb-dev down --dir" in str(ran.exception)


async def test_the_page_of_wordings_tells_that_the_database_is_away(tmp_path):
    """A sentence instead of a server that got itself in trouble; so while the box is on its way."""
    box = Box(tmp_path / "box")
    box.make_logs()
    opened = open_mailbox(tmp_path / "letters", ask_wording=wording.of_box(box.home))
    said = []
    with held(box):
        async with opened as mailbox, aiohttp.ClientSession() as http:
            for note in ({}, {"ready": True, "environment": {"DATABASE_URL": AWAY}}):
                box.write("box", note)
                async with http.get(f"{mailbox.http_url}/wording") as answer:
                    said.append((answer.status, await answer.text()))

    assert [status for status, _ in said] == [503, 503]
    assert "is not up" in said[0][1]
    assert "database does not answer" in said[1][1]


def test_status_tells_that_the_database_is_away(tmp_path, capsys):
    """That is when somebody asks for the status."""
    box = Box(tmp_path)
    with held(box):
        box.write("box", {"ready": True, "whole": True, "environment": {"DATABASE_URL": AWAY}, "database_folder": "-"})
        assert overview.show(box, control.Voice())

    assert "the database does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("is_terminal", [True, False])
def test_status_cuts_off_nothing_that_is_copied(tmp_path, is_terminal):
    """An address and a log stand whole on their lines, however few columns there are: a terminal goes on below by itself."""
    box = Box(tmp_path / ("a-folder-of-a-long-name" * 3))
    url = f"postgresql://cb:{'0' * 48}@127.0.0.1:54329/culturebridge"
    said = io.StringIO()
    console = Console(file=said, width=80, force_terminal=is_terminal, no_color=True, highlight=False, soft_wrap=True)
    box.write("processes", {"payments": {"pid": 1, "started": 0.0}, "ingress": {"pid": 1, "started": 0.0}})
    with held(box):
        box.write("box", {"ready": True, "whole": False, "environment": {"DATABASE_URL": url}, "database_folder": "-"})
        assert overview.show(box, Voice(console))
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in said.getvalue().splitlines()]

    assert lines[:3] == [
        "piece     pid  up for  log",
        f"ingress   -    down    {box.logs / 'ingress.log'}",
        f"payments  -    down    {box.logs / 'payments.log'}",
    ]
    assert f"database  {url}" in lines


async def test_a_shell_that_works_with_databases_elsewhere_finds_the_box(tmp_path, database):
    """Its PGSSLMODE is about those: the box's own offers no TLS."""
    await store.seed(database)
    box = Box(tmp_path)
    with held(box):
        url = {"DATABASE_URL": database.database_url.get_secret_value()}
        box.write("box", {"ready": True, "whole": True, "environment": url, "database_folder": "-"})
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "deploy.dev.commands.cli", "status", "--dir", str(tmp_path)],
            env={**os.environ, "PGSSLMODE": "require"},
            capture_output=True,
            text=True,
            check=True,
        )

    assert "to try     booking " in ran.stdout


def test_down_ends_nobody_but_the_holder(tmp_path, monkeypatch):
    """A crash leaves a note behind, and its pid may be anybody's by now."""
    box = Box(tmp_path)
    with held(box) as holder, stranger() as other:
        box.write("box", {"pid": other.pid, "started": 0.0, "ready": True})
        monkeypatch.setattr(control, "DOWN_SECONDS_MAX", 0.2)
        with pytest.raises(BoxError, match="has not let go of it"):
            control.down(box, Silence())
        assert other.poll() is None

        ours = psutil.Process(holder.pid)
        box.write("box", {"pid": ours.pid, "started": ours.create_time(), "ready": True})
        monkeypatch.setattr(control, "DOWN_SECONDS_MAX", DEADLINE_SECONDS)
        control.down(box, Silence())
        assert holder.wait(DEADLINE_SECONDS) == -signal.SIGTERM
        assert other.poll() is None


def test_of_two_that_bring_a_box_up_at_once_the_slower_one_joins(tmp_path, capfd):
    """Two that bring a box up at once: the slower one finds it up, and leaves the other's log alone."""
    box = Box(tmp_path)
    with held(box) as holder:
        ours = psutil.Process(holder.pid)
        note = {"pid": ours.pid, "started": ours.create_time(), "ready": True, "whole": False, "environment": {}}
        box.write("box", note)
        (box.logs / control.SUPERVISOR_LOG).write_text("of the first\n")
        control.detach(box, control.Voice(), services_only=True)

    assert "is up already" in capfd.readouterr().out
    assert (box.logs / control.SUPERVISOR_LOG).read_text().startswith("of the first\n")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_box_ends_with_what_ends_its_keeper(tmp_path, ending):
    """Ctrl-C, kill, or a terminal that is closed: nothing is left running."""
    with kept_up(tmp_path, at_hangup=signal.SIG_DFL) as (keeper, said):
        keeper.send_signal(ending)
        status = keeper.wait(DEADLINE_SECONDS)

    assert (said, status, Box(tmp_path).read("box")) == ("up\n", 0, {})


def test_under_nohup_it_outlives_its_terminal(tmp_path):
    """Whoever asked for it by that name."""
    with kept_up(tmp_path, at_hangup=signal.SIG_IGN) as (_, said):
        assert said == "deaf\n"


def test_a_note_of_another_time_is_of_nobody():
    """The same pid, born at another moment, is a stranger."""
    ours = psutil.Process()

    assert process.of_note({"pid": ours.pid, "started": ours.create_time()}) == ours
    assert process.of_note({"pid": ours.pid, "started": ours.create_time() - 60}) is None
    assert process.of_note(process.noted(ours) | {"started": ours.create_time() - 60}) is None


def test_a_note_from_before_a_reboot_is_of_nobody():
    """Who has its pid by now may have begun as long after the system: by times alone, that is a clock that was set."""
    ours = psutil.Process()
    note = process.noted(ours)
    earlier = {name: note[name] - 3600 for name in ("started", "booted")}

    assert process.of_note(note | earlier) == ours
    assert process.of_note(note | earlier | {"boot_id": "another"}) is None


def test_a_clock_that_was_put_forward_makes_no_stranger_of_who_keeps_a_box(tmp_path, monkeypatch):
    """As after a laptop's sleep: what the box noted by the clock of then is still its keeper, and `down` ends it."""
    monkeypatch.setattr(control, "DOWN_SECONDS_MAX", DEADLINE_SECONDS)
    with kept_up(tmp_path, at_hangup=signal.SIG_DFL) as (keeper, _):
        box = Box(tmp_path)
        note = box.read("box")
        box.write("box", note | {name: note[name] - 3600 for name in ("started", "booted")})
        control.down(box, Silence())
        status = keeper.wait(DEADLINE_SECONDS)

    assert status == 0


def test_ctrl_c_while_it_begins_is_no_traceback():
    """Its libraries take half a second to import, in which people change their minds."""
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr) == (-signal.SIGINT, "")


@contextlib.contextmanager
def endless_mirror():
    """A Maven repository that begins every file and ends none."""

    def answer(ours):
        with contextlib.suppress(OSError):
            ours.recv(4096)
            ours.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun")

    with socket.create_server(("127.0.0.1", 0)) as door:
        asking = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    asking.append(door.accept()[0])
                    answer(asking[-1])

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
        for one in asking:
            one.close()


def test_ctrl_c_in_a_download_leaves_the_terminal_and_the_cache_as_they_were(tmp_path, monkeypatch):
    """The cursor is seen again, and no half of a jar is kept."""
    cache = tmp_path / "culturebridge-payments" / "jars"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with endless_mirror() as mirror:
        monkeypatch.setenv("CB_MAVEN_REPOSITORY", mirror)
        fetching = Said(sys.executable, "-c", FETCHES)
        fetching.until("\x1b[?25l")
        until_blocking(lambda: list(cache.rglob("*.jar*")), "the first jar is begun")
        fetching.end(signal.SIGINT)

    assert fetching.text.count("\x1b[?25h") == fetching.text.count("\x1b[?25l")
    assert not list(cache.iterdir())
