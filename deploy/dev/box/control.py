"""Start a box, join a running one, stop it, empty it: the work behind the commands of commands/cli.py."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import filelock
import psutil

from deploy.dev import settings
from deploy.dev.errors import AlreadyUp, BoxError
from deploy.dev.processes import stop_signals, supervisor
from deploy.dev.processes.process import end_left_over, of_note
from deploy.dev.services import broker, database
from deploy.dev.services.stack import Services
from deploy.dev.state import PROJECT, Box
from deploy.dev.terminal import Voice

# A first start downloads 45 MB; the supervisor gives up by itself long before on anything that stands still.
UP_SECONDS_MAX = 600
DOWN_SECONDS_MAX = 15
LOOK_EVERY_SECONDS = 0.05
SUPERVISOR_LOG = "cb-dev.log"


def is_up(box: Box) -> bool:
    """Tell whether a process runs this box, including while it is starting."""
    return box.is_taken()


def environment_of(box: Box) -> dict[str, str]:
    """Return the variables of a box that is up; BoxError when it is not."""
    if not is_up(box) or not (note := box.read("box")).get("ready"):
        raise BoxError(f"the box in {box.home} is not up; bring it up with: {box.command('up --detach')}")
    variables: dict[str, str] = note["environment"]
    return variables


def environment_of_whole(box: Box) -> dict[str, str]:
    """Return the variables of a whole box that is up; BoxError when it is not, or is up with services only."""
    variables = environment_of(box)
    _require_whole(box)
    return variables


@contextlib.contextmanager
def kept_up(
    home: Path | None, voice: Voice, *, services_only: bool, brokers: int | None = None, secure: bool = False
) -> Iterator[dict[str, str]]:
    """Bring the box up, keep it up inside the block, end it after; yields the environment that leads to it.

    A signal of stop_signals.ENDING raises KeyboardInterrupt in the main thread, once. AlreadyUp when another process runs it.
    """
    kind = Services if services_only else _whole()
    services = kind(home, voice=voice, brokers=brokers, secure=secure)
    stop = threading.Event()
    watcher = threading.Thread(target=lambda: supervisor.keep_up(services.running.values(), stop, voice), daemon=True)
    heard = stop_signals.signals()
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        environment = services.start()
        watcher.start()
        yield environment
    finally:
        # From here on a second Ctrl-C must not leave half of it running.
        for number in heard:
            signal.signal(number, signal.SIG_IGN)
        begun = time.monotonic()
        stop.set()
        if watcher.is_alive():
            watcher.join()
        services.stop()
        voice.ready("box", "is down", begun)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def joined_or_kept_up(home: Path | None, voice: Voice) -> Iterator[bool]:
    """Keep a whole box up inside the block: join the running one, or start our own; yields whether it is ours."""
    box = Box(home)
    with contextlib.ExitStack() as stack:
        ours = not is_up(box)
        if ours:
            try:
                stack.enter_context(kept_up(home, voice, services_only=False))
            except AlreadyUp:  # by somebody who was faster
                ours = False
        if not ours:
            join(box, voice, services_only=False)
        yield ours


def wait_for_ever() -> None:
    """Wait for the KeyboardInterrupt that SIGINT and SIGTERM become inside `kept_up`."""
    threading.Event().wait()


def detach(box: Box, voice: Voice, *, services_only: bool, brokers: int | None = None, secure: bool = False) -> None:
    """Start the box in a background process; returns when it is up, BoxError when it does not come up."""
    box.make_logs()
    log = box.logs / SUPERVISOR_LOG
    asked = ["--services-only"] if services_only else []
    asked += [] if brokers is None else ["--brokers", str(brokers)]
    asked += ["--secure"] if secure else []
    with log.open("ab") as output:
        begun = output.tell()
        child = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "deploy.dev.box.background", str(box.home), *asked],
            cwd=PROJECT,
            env=settings.marked(box.home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    lines = _follow(log, begun)
    try:
        while child.poll() is None and not _is_ready(box, child.pid):
            voice.relay(next(lines))
            time.sleep(LOOK_EVERY_SECONDS)
    except BaseException:
        child.terminate()
        raise
    voice.relay(next(lines))
    if child.poll() is not None and is_up(box):  # somebody was faster
        join(box, voice, services_only=services_only, brokers=brokers, secure=secure)
        return
    if child.poll() is not None:
        raise BoxError(f"the box in {box.home} did not come up\n  its log: {log}")
    voice.say("box", f"stays up in the background; end it with: {box.command('down')}  (log: {log})")


def join(box: Box, voice: Voice, *, services_only: bool, brokers: int | None = None, secure: bool = False) -> None:
    """Say that the box is up already; wait for it while another process is starting it."""
    deadline = time.monotonic() + UP_SECONDS_MAX
    if not _is_ready(box):
        voice.say("box", "another cb-dev is bringing it up; waiting for it")
    while not _is_ready(box):
        if not is_up(box) or time.monotonic() > deadline:
            raise BoxError(f"the box in {box.home} did not come up\n  its log: {box.logs / SUPERVISOR_LOG}")
        time.sleep(LOOK_EVERY_SECONDS)
    if not services_only:
        _require_whole(box)
    broker.count(box, brokers)
    broker.is_secured(box, asked=secure)
    voice.say("box", f"is up already in {box.home}; joined")


def down(box: Box, voice: Voice) -> None:
    """Stop the process that runs the box, and all processes that a crash has left."""
    begun = time.monotonic()
    was_up = is_up(box)
    if was_up:
        _end_supervisor(box)
    left = _under_lock_end_left_over(box)
    for name in left:
        voice.say(name, "ended what an earlier run had left")
    voice.ready("box", "is down" if was_up or left else "was not up", begun)


def reset(box: Box, voice: Voice) -> None:
    """Stop everything and delete the state of the box."""
    down(box, voice)
    if not box.is_made():
        voice.say("box", f"there is none in {box.home}; nothing was removed")
        return
    box.take()
    try:
        database.remove(box)
        broker.remove(box)
        for folder in ("mailbox", "sandbox"):
            shutil.rmtree(box.home / folder, ignore_errors=True)
        for note in ("secrets", "ports", "processes", "box"):
            box.forget(note)
    finally:
        box.release()
    voice.say("box", "is empty: rows, topics, letters and secrets are gone")


def _whole() -> type[Services]:
    # The pipeline's libraries take a second to import, which services alone need not pay.
    from deploy.dev.box.whole_box import WholeBox  # noqa: PLC0415 - see above

    return WholeBox


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _require_whole(box: Box) -> None:
    if not box.read("box")["whole"]:
        again = f"{box.command('down')}, then {box.command('up')}"
        raise AlreadyUp(f"the box in {box.home} is up with services only; for all of it: {again}")


def _is_ready(box: Box, pid: int | None = None) -> bool:
    note = box.read("box")
    return bool(note.get("ready")) and pid in {None, note["pid"]}


def _follow(log: Path, begun: int) -> Iterator[str]:
    with log.open() as lines:
        lines.seek(begun)
        while True:
            yield lines.read()


def _end_supervisor(box: Box) -> None:
    asked: psutil.Process | None = None
    deadline = time.monotonic() + DOWN_SECONDS_MAX
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
        while is_up(box) and time.monotonic() < deadline:
            # Who has just begun has not noted itself yet, and a note that a crash has left may name a stranger by now.
            found = of_note(note) if (note := box.read("box")) else None
            if found is not None and found != asked:
                asked = found
                found.terminate()
            time.sleep(LOOK_EVERY_SECONDS)
        if asked is not None:
            if is_up(box):
                asked.kill()
            # It lets go of the box a moment before it is gone itself; where nobody buries the dead, a zombie is gone, too.
            deadline = time.monotonic() + DOWN_SECONDS_MAX
            while asked.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY_SECONDS)


def _under_lock_end_left_over(box: Box) -> list[str]:
    if not box.is_made():
        # Whoever removed the folder of a box that was up has left its processes without any.
        return end_left_over(box)
    try:
        with box.lock.acquire(timeout=DOWN_SECONDS_MAX):
            box.forget("box")
            return end_left_over(box)
    except filelock.Timeout:
        raise AlreadyUp(f"another cb-dev is at the box in {box.home}, and has not let go of it") from None
