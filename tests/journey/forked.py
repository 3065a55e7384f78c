"""The pipeline's processes without their second of importing: forks of one server that has imported everything once.

Enters: a module as for `python -m`, an environment and a file for what it says. Leaves: a process of its own, with a
pid that takes signals and dies of them. Whoever must see an interpreter start, the box and the demo among them, starts one.
"""

import asyncio
import atexit
import multiprocessing
import os
import runpy
import sys

IMPORTED = ("ingress.app", "ingress.serving", "consumers.payments.app", "consumers.bookings.app", "consumers.email.app")

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["pytest", *IMPORTED, "tests.journey.forking"])  # the last one freezes them


class Forked:
    """One running process, as `asyncio.subprocess.Process` shows it."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, module, *, environment, log, folder="."):
        """Start `module` under its own main; the first of a test run waits until the server has imported everything."""
        process = _server.Process(target=_live, args=(module, environment, str(log), str(folder)), daemon=True)
        await asyncio.to_thread(process.start)
        return cls(process)

    @property
    def returncode(self):
        return self._process.exitcode

    def send_signal(self, signum):
        os.kill(self.pid, signum)

    async def wait(self):
        await asyncio.to_thread(self._process.join)
        return self.returncode


def _live(module, environment, log, folder):
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(said, sys.stdout.fileno())
    os.dup2(said, sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:  # noqa: BLE001 - told as an interpreter tells its end; multiprocessing has words of its own
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # a child of multiprocessing ends without them
