"""One process of the box, as data (Piece) and as it runs (Running); and ending processes that an earlier run has left.

Next: services/stack.py starts them, supervisor.py keeps them up.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from deploy.dev import settings
from deploy.dev.errors import PieceFailed
from deploy.dev.state import Box

READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 8
POLL_SECONDS = 0.05
# Readable for whatever user a process runs as, and no .env lies there.
ROOT = Path("/")
# Boot time, from which the system derives a start time, is kept in whole seconds on some systems.
START_TIME_DRIFT_SECONDS = 2.0
# Drawn anew whenever Linux starts (random(4)); other systems have none.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Database and broker are started side by side, and both write the same note.
_NOTES = threading.Lock()


@dataclass(frozen=True)
class Piece:
    """What to run, and how to see that it is ready."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    # Where it works.
    folder: Path = ROOT
    # Told what the process has written to its log since its start.
    ready: Callable[[str], bool] = lambda _log: True
    # The numeric user and group to run as; None = as we do.
    user: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # A death before readiness whose log says this is tried again, for as long as readiness may take.
    passing_trouble: str | None = None


class Running:
    """A piece that was started. Owned by one thread at a time."""

    def __init__(self, piece: Piece, box: Box) -> None:
        self.piece = piece
        self.box = box
        self.log = box.logs / f"{piece.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    def start(self) -> None:
        """Start the process and wait until it is ready; PieceFailed when it dies or takes too long."""
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Start the process without waiting; PieceFailed when it cannot start, or while the box is being stopped."""
        with self.box.spawning, self.log.open("ab") as log:
            if self.box.is_ending:
                raise PieceFailed(self.piece.name, "not started, the box is being ended", self.log)
            self._log_from = log.tell()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    self.piece.command,
                    # Ctrl-C is for cb-dev, which then ends each piece in order.
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    **_surroundings(self.box, log, self.piece.user, self.piece.environment, self.piece.folder),
                )
            except OSError as error:
                raise PieceFailed(self.piece.name, f"cannot be started: {error}", self.log) from error
        _remember(self.box, self.piece.name, self._process.pid)

    def wait_ready(self) -> None:
        """Wait until the process is ready."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if not self.is_alive():
                said = self.said()
                if self.piece.passing_trouble is None or self.piece.passing_trouble not in said:
                    raise PieceFailed(self.piece.name, "ended before it was ready", self.log, said)
                time.sleep(0.2)
                self.spawn()
            elif self.piece.ready(self.said()):
                return
            time.sleep(POLL_SECONDS)
        said = self.said()
        self.kill()
        raise PieceFailed(self.piece.name, f"not ready after {READY_SECONDS_MAX} s", self.log, said)

    def said(self) -> str:
        """Return what the process has logged since it was started."""
        return _said_since(self.log, self._log_from)

    @property
    def pid(self) -> int:
        """The process's id; only after a start."""
        assert self._process is not None
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """How the process ended: its status, or the negative number of the signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def ask_to_stop(self) -> None:
        """Send the piece's stop signal."""
        if self._process is not None and self.is_alive():
            self._process.send_signal(self.piece.stop_signal)

    def stop(self) -> None:
        """Ask the process to end, and kill it when it does not."""
        if self._process is None:
            return
        children = self._children()
        self.ask_to_stop()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        for child in children:
            _quietly(child.kill)
        _forget(self.box, self.piece.name)

    def _children(self) -> list[psutil.Process]:
        """Return what the process has started and might leave behind."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """End the process with kill -9, as a crash would."""
        if self._process is not None and self.is_alive():
            self._process.kill()
            self._process.wait()


def run_once(
    box: Box,
    name: str,
    command: Sequence[str],
    *,
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    told: str = "",
) -> None:
    """Run a step of preparation to its end, logged in the log of that piece; PieceFailed when its status is not 0."""
    log_path = box.logs / f"{name}.log"
    with box.spawning, log_path.open("ab") as log:
        if box.is_ending:
            raise PieceFailed(name, "not prepared, the box is being ended", log_path)
        log_from = log.tell()
        try:
            step = subprocess.Popen(  # noqa: S603 - our own command
                command,
                # A group of its own: initdb has children, which end with it.
                start_new_session=True,
                stdin=subprocess.PIPE,
                **_surroundings(box, log, user, environment or {}, folder),
            )
        except OSError as error:
            raise PieceFailed(name, f"cannot be prepared: {error}", log_path) from error
        box.steps.add(step)
    step.communicate(told.encode())
    box.steps.discard(step)
    if step.returncode:
        why = f"{Path(command[0]).name} ended with status {step.returncode}"
        raise PieceFailed(name, why, log_path, _said_since(log_path, log_from))


def end_steps(box: Box) -> None:
    """End running preparation steps; each writes to a temporary place, so the next start repeats it from the beginning."""
    for step in list(box.steps):
        _quietly(os.killpg, step.pid, signal.SIGKILL)
        step.wait()


def end_left_over(box: Box) -> list[str]:
    """End whatever an earlier cb-dev of this box left running; returns their names.

    They are found by their noted pid and start time, and by the mark in the environment of those that were not noted in time.
    Call it only while holding the box's lock, or when there is no box left to lock.
    """
    left = {process.pid: (name, process) for name, process in remembered(box).items()}
    for process in _marked(box):
        left.setdefault(process.pid, (process.name(), process))
    for _, process in left.values():
        _quietly(process.send_signal, signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, stubborn = psutil.wait_procs([process for _, process in left.values()], timeout=STOP_SECONDS_MAX)
    for process in stubborn:
        _quietly(process.kill)
    psutil.wait_procs(stubborn, timeout=STOP_SECONDS_MAX)
    box.forget("processes")
    return sorted({name for name, _ in left.values()})


def remembered(box: Box) -> dict[str, psutil.Process]:
    """Return the noted processes that still run; a process that reuses a noted pid does not count."""
    found = {name: of_note(note) for name, note in box.read("processes").items()}
    return {name: process for name, process in found.items() if process is not None}


def noted(process: psutil.Process) -> dict[str, Any]:
    """Return what tells a process from any other that gets its pid: when it started, and when, and as which, the system did."""
    return {"pid": process.pid, "started": process.create_time(), "booted": psutil.boot_time(), "boot_id": _boot_id()}


def of_note(note: Mapping[str, Any]) -> psutil.Process | None:
    """Return the noted process while it runs; None when it ended, or another process has its pid."""
    try:
        process = psutil.Process(note["pid"])
        apart = process.create_time() - note["started"]
        # Linux reckons both from now: a clock that was set moves the system's start, and every process's with it. So does a
        # reboot, after which a stranger with that pid may have begun as long after the start.
        set_by = psutil.boot_time() - note.get("booted", psutil.boot_time())
        same_boot = note.get("boot_id", _boot_id()) == _boot_id()
        same = same_boot and min(abs(apart), abs(apart - set_by)) < START_TIME_DRIFT_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _boot_id() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def _said_since(log: Path, position: int) -> str:
    with log.open("rb") as lines:
        lines.seek(position)
        return lines.read().decode(errors="replace")


def _surroundings(box: Box, log: BinaryIO, user: int | None, environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    as_user = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return {
        "env": {**settings.passed_on(), **environment, settings.BOX_MARK: str(box.home)},
        "stdout": log,
        "stderr": subprocess.STDOUT,
        "cwd": folder,
        **as_user,
    }


def _marked(box: Box) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(settings.BOX_MARK) == str(box.home):
                yield process
        except (psutil.Error, OSError):
            continue  # Gone, or of another user: not ours.


def _remember(box: Box, name: str, pid: int) -> None:
    with _NOTES:
        notes = box.read("processes")
        try:
            notes[name] = noted(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return  # Died at once; waiting for readiness tells why.
        box.write("processes", notes)


def _forget(box: Box, name: str) -> None:
    with _NOTES:
        notes = box.read("processes")
        notes.pop(name, None)
        box.write("processes", notes)


def _quietly(call: Callable[..., Any], *args: object) -> None:
    try:
        call(*args)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
