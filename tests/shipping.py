"""`make check` on what ships: hadolint reads the Dockerfiles, Docker the compose files, Prometheus its rules, HAProxy its own.

A line for each; exits non-zero where one complains. hadolint comes with the requirements. Docker, promtool and haproxy are
asked where they are on the machine, and a line says so where they are not: the tests in tests/architecture then judge alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.architecture.dockerfile import FILE
from tests.architecture.source import ROOT

HADOLINT = (str(Path(sys.executable).with_name("hadolint")), "--no-color")
COMPOSE = ("docker", "compose", "--env-file", ".env.example", "--profile", "dev", "--profile", "ops")
CLUSTER = "deploy/cluster/compose.yml"
BALANCER = "deploy/cluster/balancer"
JUDGES = {
    "Dockerfile: hadolint": (*HADOLINT, str(FILE)),
    f"{BALANCER}/Dockerfile: hadolint": (*HADOLINT, f"{BALANCER}/Dockerfile"),
    "docker-compose.yml: docker compose": (*COMPOSE, "--profile", "observability", "config", "--quiet"),
    f"{CLUSTER}: docker compose": (*COMPOSE, "-f", CLUSTER, "config", "--quiet"),
    f"{BALANCER}/haproxy.cfg: haproxy": ("haproxy", "-c", "-q", "-f", f"{BALANCER}/haproxy.cfg"),
    "alerts and scraping: promtool": ("promtool", "check", "config", "deploy/observability/prometheus/prometheus.yml"),
    "alerts that fire: promtool": ("promtool", "test", "rules", "tests/architecture/alerts.yml"),
}
OPTIONAL = {
    "docker": ("docker", "compose", "version"),
    "promtool": ("promtool", "--version"),
    "haproxy": ("haproxy", "-v"),
}
HOW = {
    "docker": "Docker with its compose plugin",
    "promtool": "promtool (on Debian: apt-get install prometheus)",
    "haproxy": "haproxy (on Debian: apt-get install haproxy)",
}
# What .env.example leaves to its reader; nothing is started with it.
FILLED_IN = dict.fromkeys(("POSTGRES_PASSWORD", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "JWT_SECRET_KEY"), "filled-in")


def main():
    """Ask each; return the exit status."""
    return max([asked(name, command) for name, command in JUDGES.items()])


def asked(name, command):
    """Ask one judge, tell what it says, and return 1 if that is a complaint."""
    if command[0] in OPTIONAL and not answers(OPTIONAL[command[0]]):
        print(f"--  {name}: not asked, {HOW[command[0]]} is not on this machine")
        return 0
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | FILLED_IN, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(f"{'no' if ran.returncode else 'ok'}  {name}")
    if ran.returncode:
        print(ran.stdout)
    return 1 if ran.returncode else 0


def answers(command):
    """Whether a program is there and works."""
    return shutil.which(command[0]) is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
