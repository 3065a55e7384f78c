"""`make check` on what ships: hadolint reads the Dockerfile, Docker the compose file, Prometheus its rules. A line for each.

Exits non-zero where one complains. hadolint comes with the requirements. Docker and promtool are asked where they are on the
machine, and a line says so where they are not: the tests in tests/architecture then judge alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.architecture.dockerfile import FILE
from tests.architecture.source import ROOT

COMPOSE = (
    "docker",
    "compose",
    "--env-file",
    ".env.example",
    "--profile",
    "dev",
    "--profile",
    "observability",
    "--profile",
    "ops",
)
JUDGES = {
    "Dockerfile: hadolint": (str(Path(sys.executable).with_name("hadolint")), "--no-color", str(FILE)),
    "docker-compose.yml: docker compose": (*COMPOSE, "config", "--quiet"),
    "alerts and scraping: promtool": ("promtool", "check", "config", "deploy/observability/prometheus/prometheus.yml"),
}
OPTIONAL = {
    "docker": ("docker", "compose", "version"),
    "promtool": ("promtool", "--version"),
}
HOW = {"docker": "Docker with its compose plugin", "promtool": "promtool (on Debian: apt-get install prometheus)"}
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
