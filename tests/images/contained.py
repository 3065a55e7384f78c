"""A process of the pipeline in a container of its image, as `tests/journey/forked.py` has one that was forked.

Enters: a module as for `python -m`, its environment and a file for what it says. Leaves: a process that takes signals
and ends with a status. The container is as locked as docker-compose.yml locks it, and uses this machine's own network, where
everything else of a test is.
"""

import asyncio
import json
import signal
import subprocess
import uuid
from datetime import datetime

from tests.architecture.dockerfile import FILE
from tests.architecture.source import ROOT

BASE = "python:3.13-slim"
LOCKED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
OF_THIS_MACHINE = {"PATH", "HOME", "LANG"}


def image(target):
    return f"culturebridge/{target}:tests"


def built(target):
    """Build the image of a target; subprocess.CalledProcessError when that fails, after Docker has said why."""
    docker("build", "--quiet", "--file", str(FILE), "--target", target, "--tag", image(target), str(ROOT))


def docker(*arguments):
    """Run Docker; return what it says."""
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def size_bytes(name):
    return int(docker("image", "inspect", "--format={{.Size}}", name))


def once(target, *command, environment=(), files=()):
    """Run a command in a container of a target, as locked as a process is; return the finished subprocess.

    `files` are of this machine, by where the container has them, for reading.
    """
    told = [f"--env={name}={value}" for name, value in dict(environment).items()]
    locked = ("run", "--rm", *LOCKED, *told, *_mounted(files))
    return subprocess.run(["docker", *locked, image(target), *command], check=False, capture_output=True, text=True)


def _mounted(files):
    return [f"--volume={here}:{there}:ro" for here, there in dict(files).items()]


class Contained:
    """One running container, as `asyncio.subprocess.Process` shows a process."""

    def __init__(self, process, name):
        self._process, self.name = process, name

    @classmethod
    async def start(cls, module, *, environment, log, files=()):
        name = f"culturebridge-tests-{uuid.uuid4().hex[:12]}"
        told = [f"--env={key}={value}" for key, value in environment.items() if key not in OF_THIS_MACHINE]
        locked = (*LOCKED, *told, *_mounted(files))
        command = ("docker", "run", "--rm", f"--name={name}", *locked, image(module.rpartition(".")[2]))
        with log.open("ab") as said:
            return cls(await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said, start_new_session=True), name)

    @property
    def returncode(self):
        return self._process.returncode

    def started_at(self):
        """When its first process began, by this machine's clock."""
        [state] = json.loads(docker("container", "inspect", "--format=[{{json .State}}]", self.name))
        return datetime.fromisoformat(state["StartedAt"]).timestamp()

    def send_signal(self, signum):
        if signum == signal.SIGTERM:
            # `docker run` hands it on.
            self._process.send_signal(signum)
        else:
            subprocess.run(["docker", "rm", "--force", self.name], check=False, capture_output=True)

    async def stopped(self, grace_seconds):
        """`docker stop`; return the exit status, which is 137 where Docker had to kill it."""
        stopping = await asyncio.create_subprocess_exec(
            "docker", "stop", f"--time={grace_seconds}", self.name, stdout=asyncio.subprocess.DEVNULL
        )
        await stopping.wait()
        return await self.wait()

    async def wait(self):
        return await self._process.wait()
