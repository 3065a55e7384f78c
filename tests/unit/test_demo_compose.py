"""`make demo-compose` without an engine, and where the stack does not come up; Docker is a script that notes its calls."""

import functools
import itertools
import os
import re
import signal
import stat
import subprocess
import sys

import pytest
import yaml

from deploy.dev.demo import compose
from deploy.dev.errors import BoxError
from deploy.dev.state import Box
from deploy.dev.terminal import Silence
from tests.architecture.source import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()


@pytest.fixture
def docker(monkeypatch, tmp_path):
    """Puts a docker on the PATH that notes its calls and does as told; the PATH holds nothing else but the shell's own."""
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("PATH", str(tmp_path))

    def does(script):
        program = tmp_path / "docker"
        program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n{script}\n')
        program.chmod(0o755)

    does.calls = lambda: calls.read_text().splitlines()
    return does


def refused():
    """What is said when it cannot be shown."""
    with pytest.raises(BoxError) as error:
        compose.show(Silence(), stay=False, patience_seconds=1)
    return str(error.value)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "docker is not on this machine"),
        ("exit 1", "no Docker engine answers"),
        ('[ "$1" = version ]', "this Docker has no compose plugin"),
    ],
)
def test_without_an_engine_it_says_so_in_one_line(docker, script, why):
    """And what does without: nothing was begun."""
    if script is not None:
        docker(script)

    assert refused() == f"demo-compose: {why}; `make demo` tells the same story without it"


def test_a_stack_that_does_not_come_up_is_taken_down_and_told(docker, monkeypatch, tmp_path):
    """What its services say stands in the message; volumes go, too, before it and after it."""
    monkeypatch.setattr(compose, "PROJECT", tmp_path)
    docker(
        'case "$*" in *" up "*) exit 1 ;; *" ps "*) echo "  email: Up (unhealthy)" ;; *" logs "*) echo "email-1 | no" ;; esac'
    )

    assert refused() == "demo-compose: the stack did not come up\n  email: Up (unhealthy)\nemail-1 | no"
    asked = [re.search(r" (down|build|up|ps|logs) ?(.*)", call) for call in docker.calls() if "--env-file" in call]
    assert [one[1] for one in asked] == ["down", "build", "up", "ps", "logs", "down"]
    assert {one[2] for one in asked if one[1] == "down"} == {"--volumes --remove-orphans"}
    assert {one[2].split()[0] for one in asked if one[1] == "up"} == {"--no-build"}  # not a second time


def test_a_port_that_was_taken_while_images_were_built_is_side_stepped(docker, monkeypatch, tmp_path):
    """Building takes a minute; what is published is chosen after it."""
    monkeypatch.setattr(compose, "PROJECT", tmp_path)
    numbers = itertools.count(20_000)
    monkeypatch.setattr(compose.ports, "choose", lambda _usual, avoid: next(n for n in numbers if n not in avoid))
    at_up = tmp_path / "at_up"
    env_file = tmp_path / ".dev" / "composed" / "compose.env"
    docker(f'case "$*" in *" up "*) while read line; do echo "$line"; done < {env_file} > {at_up}; exit 1 ;; esac')

    refused()

    published = [int(line.rpartition("=")[2]) for line in at_up.read_text().splitlines() if line.startswith("PUBLISHED")]
    assert published == [20_000 + len(published) + number for number in range(len(published))]


SHOWS = """
import sys
from pathlib import Path
from deploy.dev.demo import compose
from deploy.dev.terminal import Silence
compose.PROJECT = Path(sys.argv[1])
compose.show(Silence(), stay=False, patience_seconds=1)
"""


@pytest.mark.parametrize("ending", ["TERM", "HUP"])
def test_a_terminal_that_is_closed_takes_the_stack_along(docker, tmp_path, ending):
    """As kill does, and Ctrl-C: nothing of it is left."""
    docker(f'case "$*" in *" up "*) kill -{ending} $PPID ;; esac')
    shown = subprocess.run(
        [sys.executable, "-c", SHOWS, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
    )

    assert "KeyboardInterrupt" in shown.stderr
    assert " down " in docker.calls()[-1]


def test_its_env_file_holds_all_that_is_asked_for_and_is_its_owners(tmp_path):
    """Secrets of its own, made up for it; a stranger on the machine cannot read them."""
    stack = compose.Stack(compose.DEMO, Box(tmp_path), Silence())
    stack._write_env_file()
    file = tmp_path / "compose.env"
    held = dict(line.split("=", 1) for line in file.read_text().splitlines())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE)) <= set(held)
    assert all(held.values())
    assert held["POSTGRES_PASSWORD"] in stack.variables["DATABASE_URL"]
    assert len({port for name, port in held.items() if name.startswith("PUBLISHED")}) == len(compose.DEMO.published)


def test_a_variable_of_the_shell_does_not_reach_the_stack(monkeypatch):
    """It would win over the env file: a DATABASE_URL of somebody's box, a live key of Stripe."""
    for name in yaml.load(COMPOSE, yaml.CSafeLoader)["services"]["ingress"]["environment"]:
        monkeypatch.setenv(name, "of-the-shell")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/engine.sock")

    passed = compose.machine.passed_on_to_docker()
    assert "of-the-shell" not in passed.values()
    assert passed["DOCKER_HOST"] == "unix:///run/engine.sock"
    assert passed["PATH"] == os.environ["PATH"]
