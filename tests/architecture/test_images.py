"""What an image may be: of a pinned base, without root, no shell between a signal and the process, its room alone."""

import re

import pytest

from consumers.bookings.app import Settings as BookingsSettings
from consumers.email.app import Settings as EmailSettings
from consumers.payments.app import Settings as PaymentsSettings
from deploy.dev.box.pipeline import PROCESSES
from deploy.images import healthcheck
from ingress.app import IngressSettings
from shared.kafka.health import READY_WITHIN_SECONDS
from tests.architecture import dockerfile
from tests.architecture.source import ROOT

SETTINGS = {"ingress": IngressSettings, "payments": PaymentsSettings, "bookings": BookingsSettings, "email": EmailSettings}
STAGES = dockerfile.stages(dockerfile.FILE.read_text())
SHIPPED = (*PROCESSES, "cb-ops")
FINAL = (*SHIPPED, "dev")
BALANCER = dockerfile.stages((ROOT / "deploy/cluster/balancer/Dockerfile").read_text())
# A number, or a release of Debian by its name: `stable` is another one every two years.
VERSION = re.compile(r"[\w./-]+:(\d[\w.-]*|trixie-slim)")


def faults(stages, target):
    """What is wrong with a target."""
    bases = [stage.base for stage in dockerfile.lineage(stages, target) if stage.base not in stages]
    found = [f"{base} is no version" for base in bases if not VERSION.fullmatch(base)]
    user = (dockerfile.said(stages, target, "USER") or ["root"])[-1]
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        found.append(f"runs as {user}")
    commands = [*dockerfile.said(stages, target, "CMD"), *dockerfile.said(stages, target, "ENTRYPOINT")]
    commands += [asked.partition("CMD ")[2] for asked in dockerfile.said(stages, target, "HEALTHCHECK")]
    return found + [f"a shell reads {command}" for command in commands if dockerfile.exec_form(command) is None]


@pytest.mark.parametrize("target", FINAL)
def test_an_image_is_pinned_without_root_and_hears_signals(target):
    """`docker stop` reaches the process itself, which drains; nobody who breaks out of it is root."""
    assert faults(STAGES, target) == []


def test_the_balancer_is_built_by_the_same_rules():
    """What stands before the doors hears signals as they do, and ends what is under way: docker stop sends what it says."""
    assert faults(BALANCER, "") == []
    assert dockerfile.said(BALANCER, "", "STOPSIGNAL") == ["SIGUSR1"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("FROM python:latest AS t\nUSER 1:1", "python:latest is no version"),
        ("FROM python AS t\nUSER 1:1", "python is no version"),
        ("FROM debian:stable-slim AS t\nUSER 1:1", "debian:stable-slim is no version"),
        ("FROM python:3.13-slim AS t", "runs as root"),
        ("FROM python:3.13-slim AS t\nUSER 1:1\nUSER root", "runs as root"),
        ("FROM python:3.13-slim AS t\nUSER 1:1\nCMD python -m \\\n  ingress", "a shell reads python -m ingress"),
        ("FROM python:3.13-slim AS t\nUSER 1:1\nHEALTHCHECK CMD curl localhost", "a shell reads curl localhost"),
    ],
)
def test_a_fault_is_seen_where_it_is_planted(line, fault):
    """The rule itself is tried."""
    assert faults(dockerfile.stages(line), "t") == [fault]


@pytest.mark.parametrize("process", PROCESSES)
def test_an_image_runs_its_process_and_is_asked_on_its_port(process):
    """The command of the box, and the health port of its settings, set so that it is strict."""
    assert dockerfile.exec_form(dockerfile.said(STAGES, process, "CMD")[-1]) == ["python", "-m", PROCESSES[process]]
    port = SETTINGS[process].model_fields["health_port"].default
    assert f"HEALTH_PORT={port}" in dockerfile.said(STAGES, process, "ENV")
    assert len(dockerfile.said(STAGES, process, "HEALTHCHECK")) == 1


@pytest.mark.parametrize("target", SHIPPED)
def test_an_image_holds_its_own_room_alone(target):
    """Besides `shared` what the process is, and never the box or the tests; packages by hash, without pip."""
    own = {"ingress": "ingress", "cb-ops": "deploy"}.get(target, f"consumers/{target}")
    copied = [source for one in dockerfile.said(STAGES, target, "COPY") for source in one.split()[:-1]]
    rooms = {source.removeprefix("/app/") for source in copied if source.startswith("/app/")}

    compiled = {source.removeprefix("/opt/own/") for source in copied if source.startswith("/opt/own/")}

    assert rooms - {"healthcheck.py", "consumers/__init__.py"} == compiled == {"shared", own}
    assert "pip uninstall" in " ".join(dockerfile.said(STAGES, target, "RUN"))
    assert all("--require-hashes" in run for run in STAGES["installed"].said("RUN"))


@pytest.mark.parametrize("target", SHIPPED)
def test_an_image_reads_bytecode_where_it_was_written(target):
    """Else everything would be compiled at each start, and nobody would see more than a slow one."""
    places = {"PYTHONPYCACHEPREFIX=/opt/bytecode"}

    for name in (target, "code"):
        assert places <= set(" ".join(dockerfile.said(STAGES, name, "ENV")).split())
    # `-E` and `-I` shut the ears to it.
    spoken = [*dockerfile.said(STAGES, target, "CMD"), *dockerfile.said(STAGES, target, "HEALTHCHECK")]
    assert not [words for words in spoken if re.search(r'"-\w*[EI]', words)]


@pytest.mark.parametrize("target", PROCESSES)
def test_an_image_waits_for_what_a_silent_cluster_costs_and_docker_for_the_image(target):
    """Else silence makes it unhealthy, and whoever restarts what is unhealthy restarts a consumer for Kafka's sake."""
    [asked] = dockerfile.said(STAGES, target, "HEALTHCHECK")
    docker_seconds = float(re.search(r"--timeout=(\d+)s", asked)[1])

    assert READY_WITHIN_SECONDS < healthcheck.SECONDS_MAX < docker_seconds


def test_every_package_of_an_image_is_trimmed_before_it_is_copied():
    """What a later layer takes away still weighs."""
    assert [run for run in STAGES["packages"].said("RUN") if "/trim.py" in run]
    assert STAGES["packages"].base == "installed"
    assert "--from=packages /opt/venv /opt/venv" in STAGES["runtime"].said("COPY")


def test_what_cb_ops_copies_of_deploy_is_ops():
    """The image's `deploy` is made of what the stage before has put there."""
    of_deploy = [one.split()[0] for one in STAGES["code"].said("COPY") if one.startswith("deploy/")]

    assert of_deploy == [
        "deploy/__init__.py",
        "deploy/ops",
        "deploy/images/healthcheck.py",
        "deploy/images/bytecode.py",
    ]


def test_nothing_enters_a_build_unasked():
    """A list of what may, since a list of what may not forgets tomorrow's .env."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    assert lines[0] == "*"
    assert [line for line in lines if "tests" in line or ".env" in line] == []
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!"))
