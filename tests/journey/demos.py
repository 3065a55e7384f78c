"""The real commands of the box in a folder of a test's own: at a terminal, or as another program calls them."""

import contextlib
import fcntl
import functools
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import psutil

from deploy.dev import settings
from deploy.dev.box import control
from deploy.dev.commands import cli
from deploy.dev.demo.purchase import Hop
from deploy.dev.state import Box
from deploy.dev.terminal import Silence

CB_DEV = Path(sys.executable).with_name("cb-dev")
DEADLINE_SECONDS = 90
COLUMNS = 100
TITLES = [hop.title for hop in Hop]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Said:
    """A process at a terminal, and what it has said there so far, without colours."""

    def __init__(self, *command):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color"}
        # A shell's background job hands an ignored SIGINT on to all that it starts; at a terminal Ctrl-C is heard.
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            preexec_fn=heard,  # noqa: PLW1509 - one call of the system, which takes no lock
        )
        os.close(theirs)
        self._raw = b""
        self._listener = threading.Thread(target=self._listen, args=(ours,), daemon=True)
        self._listener.start()

    @property
    def text(self):
        return COLOUR.sub("", self._raw.decode(errors="replace")).replace("\r\n", "\n")

    def until(self, words):
        """Wait until these words were said."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while words not in self.text:
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {words!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"not said within {DEADLINE_SECONDS} s: {words!r}\n{self.text}"
            time.sleep(0.02)

    def end(self, signum):
        """Send a signal, as Ctrl-C does; return the exit status."""
        self.process.send_signal(signum)
        status = self.process.wait(DEADLINE_SECONDS)
        self._listener.join(5)
        return status

    def _listen(self, ours):
        # A terminal whose other side is closed ends with EIO on Linux and with nothing on macOS.
        with contextlib.suppress(OSError):
            while said := os.read(ours, 65536):
                self._raw += said
        os.close(ours)


def run(*arguments, folder):
    """Run a command without a terminal; its exit status and everything it said."""
    done = subprocess.run(
        [CB_DEV, *arguments, "--dir", folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def run_here(*arguments, folder):
    """Likewise without an interpreter of its own, for whoever looks at what is said and done, and not at a process."""
    said = io.StringIO()
    before = sys.argv
    sys.argv = ["cb-dev", *arguments, "--dir", str(folder)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as ended:
        return ended.code or 0, said.getvalue()
    finally:
        sys.argv = before
    return 0, said.getvalue()


def at_a_terminal(folder):
    """`cb-dev demo`, which stays until it is told to end."""
    return Said(CB_DEV, "demo", "--dir", folder)


def hops(text):
    """The hops that were told, in the order of their lines."""
    return [title for line in text.splitlines() for title in TITLES if re.match(rf" *(\d+ ms)? +([✓✗] +)?{title} ", line)]


def left_running(folder):
    """Whatever still runs for the box in this folder."""
    return [f"{process.pid} {process.name()}" for process in psutil.process_iter() if _belongs(process, folder)]


def removed(demo, folder):
    """End a demo whatever its state, and remove its box."""
    if demo.process.poll() is None:
        demo.end(signal.SIGINT)
    control.reset(Box(folder), Silence())


def _belongs(process, folder):
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and (str(folder) in process.cmdline() or process.environ().get(settings.BOX_MARK) == str(folder))
    except psutil.Error:
        return False
