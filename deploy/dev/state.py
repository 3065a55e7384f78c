"""The state that a box keeps in its folder: the lock of the process that runs it, its secrets, ports and processes.

Every file is replaced atomically: after a kill -9 it is the old one or the new one, never half of one.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from deploy.dev.errors import AlreadyUp, BoxError

PROJECT = Path(__file__).resolve().parents[2]


class Box:
    """The folder of one box: `.dev/` of the project, or where `--dir` says."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = (home or PROJECT / ".dev").resolve()
        # Ends with whoever holds it, kill -9 included; the file itself means nothing.
        self.lock = filelock.FileLock(self.home / "lock", mode=0o600)
        # Held while a process is born, so that none is born after the decision to end them all.
        self.spawning = threading.Lock()
        self.is_ending = False
        # What prepares a piece and ends by itself: initdb and the like.
        self.steps: set[subprocess.Popen[bytes]] = set()

    @property
    def hash(self) -> str:
        """A short name for this folder, the same at every start."""
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:10]

    def command(self, words: str) -> str:
        """Return the command line for this box, relative to the current folder: make puts no .venv on the PATH."""
        name = sys.argv[0] if Path(sys.argv[0]).name == "cb-dev" else "cb-dev"
        where = "" if self.home == Box().home else f" --dir {shlex.quote(str(self.home))}"
        return f"{shlex.quote(name)} {words}{where}"

    @property
    def logs(self) -> Path:
        """Where every process of this box writes."""
        return self.home / "logs"

    def make_logs(self) -> None:
        """Make the folder where there is none; BoxError where that cannot be."""
        with self._reached():
            self.logs.mkdir(parents=True, exist_ok=True)

    def take(self) -> None:
        """Take the lock of this box until `release` or death; AlreadyUp when another process has it."""
        self.make_logs()
        with self._reached():
            try:
                self.lock.acquire(timeout=0)
            except filelock.Timeout:
                raise AlreadyUp(f"another cb-dev runs the box in {self.home}") from None
        self.is_ending = False

    def release(self) -> None:
        """Let others run this box."""
        self.lock.release()

    def begin_to_end(self) -> None:
        """From now on no process of this box is started."""
        with self.spawning:
            self.is_ending = True

    def is_taken(self) -> bool:
        """Tell whether another process runs this box now."""
        with self._reached():
            # Looking makes no lock where none ever was.
            if not Path(self.lock.lock_file).exists():
                return False
            try:
                with self.lock.acquire(timeout=0):
                    return False
            except filelock.Timeout:
                return True

    def is_made(self) -> bool:
        """Tell whether a box was ever started in this folder: otherwise its files are somebody else's."""
        with self._reached():
            was_run = self.logs.is_dir() or (self.home / "ports.json").exists()
            return was_run and Path(self.lock.lock_file).exists()

    def read(self, name: str) -> dict[str, Any]:
        """Return what was written under that name; empty when nothing was."""
        with self._reached():
            try:
                remembered: dict[str, Any] = json.loads((self.home / f"{name}.json").read_text())
            except FileNotFoundError:
                return {}
        return remembered

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Remember `value` under that name, readable by its owner only (it may hold secrets)."""
        self.home.mkdir(parents=True, exist_ok=True)
        aside = self.home / f".{name}.json.{os.getpid()}"
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - the mode
            json.dump(value, file, indent=2)
        aside.replace(self.home / f"{name}.json")

    def forget(self, name: str) -> None:
        """Remove what was written under that name."""
        (self.home / f"{name}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise a one-line error when the folder cannot be used: read-only, another user's, below a file."""
        try:
            yield
        except OSError as error:
            raise BoxError(f"the box in {self.home} cannot be used: {error.strerror} ({error.filename})") from error

    def secrets(self) -> dict[str, str]:
        """Return this box's own secrets; they are generated once, so that the repository contains none."""
        if not (known := self.read("secrets")):
            known = {
                "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(24)}",
                "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
                "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            }
            self.write("secrets", known)
        return known
