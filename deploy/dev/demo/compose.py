"""docker-compose.yml as `make demo-compose` shows it: up from nothing, the story told in it, down without a trace.

Enters: a machine with a Docker engine. Leaves: lines for a terminal, whether every hop was seen. A stack has a name, ports
and secrets of its own, so that it never touches one that a developer runs; `make chaos-cluster` has deploy/cluster/compose.yml
up in the same way. Next: story.py.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from deploy.dev import settings as machine
from deploy.dev.demo import demo, story
from deploy.dev.demo.target import LOG_LINES
from deploy.dev.errors import BoxError
from deploy.dev.processes import ports, stop_signals
from deploy.dev.seed import store, token
from deploy.dev.services import environment
from deploy.dev.state import PROJECT, Box
from deploy.dev.terminal import Voice
from shared import settings


@dataclass(frozen=True)
class Composition:
    """A compose file as a command of ours has it up: `published` is what it publishes, and where a person would look for it.

    `name` is that of its project; `instead` says what to use on a machine without a Docker engine.
    """

    command: str
    name: str
    file: Path
    published: Mapping[str, int]
    instead: str

    def refusal(self, why: str) -> BoxError:
        """Return the error of a command that cannot begin."""
        return BoxError(f"{self.command}: {why}{self.instead}")


DEMO = Composition(
    command="demo-compose",
    name="culturebridge-demo",
    file=PROJECT / "docker-compose.yml",
    published={"POSTGRES": 5432, "KAFKA": 29092, "INGRESS": 8000, "SANDBOX": 12111, "MAILBOX": 8025},
    instead="; `make demo` tells the same story without it",
)
SERVICES = {"database": "postgres", "broker": "kafka"}  # the others are called as in the box
ENGINE_SECONDS_MAX = 10
# From images that are there; a first start has Kafka and PostgreSQL make their folders ready.
UP_SECONDS_MAX = 180


def show(voice: Voice, *, stay: bool, patience_seconds: float) -> bool:
    """Show it; returns whether every hop was seen. BoxError when there is no engine, or the stack does not come up.

    SIGTERM, or a terminal that is closed, ends it as Ctrl-C does, with KeyboardInterrupt, and the stack with it.
    """
    require_engine(DEMO)
    before = {number: signal.signal(number, signal.default_int_handler) for number in stop_signals.signals()}
    stack = Stack(DEMO, Box(PROJECT / ".dev" / "composed"), voice)
    try:
        with stack.kept_up(stay=stay):
            seen = story.tell(stack, voice, patience_seconds=patience_seconds)
            if stay:
                demo.show_addresses(voice, stack.addresses())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return seen


class Stack:
    """The services of a compose file with a sandbox and a mailbox; a `target.Target` while it is up.

    `told` are variables that its services are given besides, and instead of, its own.
    """

    def __init__(self, of: Composition, box: Box, voice: Voice, told: Mapping[str, str] | None = None) -> None:
        self._of = of
        self._told = told or {}
        self._box = box
        self._voice = voice
        self._password = secrets.token_hex(24)
        self._ports = self._free_ports()
        self._env_file = box.home / "compose.env"

    @contextlib.contextmanager
    def kept_up(self, *, stay: bool) -> Iterator[None]:
        """Keep it up inside the block, started from nothing; afterwards remove all of it, unless it is to stay."""
        self._write_env_file()
        self._down()  # what a killed run has left
        try:
            self._up()
            yield
        except BaseException:
            self._end()
            raise
        if stay:
            self._voice.say("stack", f"stays up; end it with: {' '.join(self.command('down', '--volumes'))}")
        else:
            self._end()

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables by which this machine reaches it."""
        port = self._ports
        brokers = [f"{ports.LOOPBACK}:{number}" for name, number in port.items() if name.startswith("KAFKA")]
        return {
            "DATABASE_URL": f"postgresql://culturebridge:{self._password}@{ports.LOOPBACK}:{port['POSTGRES']}/culturebridge",
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(brokers),
            **{f"CB_DEV_{name}_URL": environment.url(port[name]) for name in ("INGRESS", "SANDBOX", "MAILBOX")},
        }

    def port(self, name: str) -> int:
        """Return the local port under which this machine reaches a published service."""
        return self._ports[name]

    @property
    def token(self) -> str:
        """A bearer token of the client."""
        return token.issue(self._box, "client")

    def look(self, piece: str) -> Sequence[str]:
        """Return what Docker says of the piece's service, and the end of its log."""
        service = SERVICES.get(piece, piece)
        status = self.asked("ps", "--all", "--format", "{{.Status}}", service)
        said = self.asked("logs", "--no-log-prefix", "--tail", str(LOG_LINES), service)
        return [f"{service}: {' '.join(status)}", *(f"| {line}" for line in said)]

    def addresses(self) -> dict[str, str]:
        """Return what a person may open or try, by name."""
        return {
            **demo.pages(self.variables),
            "to pay for": store.to_pay_for(self._database),
            "as its client": self._box.command("token --as client"),
        }

    @property
    def _database(self) -> settings.Database:
        return settings.Database(database_url=SecretStr(self.variables["DATABASE_URL"]))

    def _up(self) -> None:
        begun = time.monotonic()
        if not self._ran("build"):
            raise BoxError(f"{self._of.command}: the images cannot be built")
        self._voice.ready("images", "are built", begun)
        begun = time.monotonic()
        # Anew: building takes a minute, in which others may have taken one.
        self._ports = self._free_ports()
        self._write_env_file()
        if not self._ran("up", "--no-build", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS_MAX)):
            states = self.asked("ps", "--all", "--format", "  {{.Service}}: {{.Status}}")
            logs = self.asked("logs", "--tail", str(LOG_LINES))
            raise BoxError("\n".join([f"{self._of.command}: the stack did not come up", *states, *logs]))
        stop_signals.run(store.seed(self._database))
        self._voice.ready("stack", "is up, migrated, with topics and people", begun)

    def _free_ports(self) -> dict[str, int]:
        chosen: dict[str, int] = {}
        for name, usual in self._of.published.items():
            chosen[name] = ports.choose([usual], avoid=chosen.values())
        return chosen

    def _end(self) -> None:
        # From here on a second Ctrl-C must not leave half of it running.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in stop_signals.signals()}
        begun = time.monotonic()
        self._down()
        self._voice.ready("stack", "is down, its volumes are gone", begun)
        for number, handler in before.items():
            signal.signal(number, handler)

    def _down(self) -> None:
        if not self._ran("down", "--volumes", "--remove-orphans"):
            by_hand = " ".join(self.command("down", "--volumes"))
            raise BoxError(f"{self._of.command}: the stack could not be taken down: {by_hand}")

    def _write_env_file(self) -> None:
        """Write every variable that docker-compose.yml asks for, readable by its owner alone."""
        values = {
            "POSTGRES_PASSWORD": self._password,
            **self._box.secrets(),
            "STRIPE_API_BASE": "http://sandbox:12111",
            "CHECKOUT_ALLOWED_ORIGINS": ",".join(environment.url(self._ports[name]) for name in ("INGRESS", "MAILBOX")),
            "SMTP_HOST": "mailbox",
            "SMTP_PORT": "1025",
            "SMTP_SECURITY": "none",
            "SMTP_FROM_EMAIL": environment.LETTERS_FROM,
            **{f"PUBLISHED_{name}_PORT": str(port) for name, port in self._ports.items()},
            **self._told,
        }
        lines = "".join(f"{name}={value}\n" for name, value in values.items())
        self._env_file.unlink(missing_ok=True)
        with open(os.open(self._env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - the mode
            file.write(lines)

    def _ran(self, *arguments: str) -> bool:
        """Run a command of compose, which shows itself where there is a terminal; returns whether it succeeded."""
        progress = "auto" if self._voice.console.is_terminal else "quiet"
        command = self.command("--progress", progress, *arguments)
        # Out of reach of Ctrl-C where it cleans up.
        own_session = arguments[0] == "down"
        ran = subprocess.run(command, env=machine.passed_on_to_docker(), check=False, start_new_session=own_session)  # noqa: S603 - our own command
        return ran.returncode == 0

    def asked(self, *arguments: str) -> list[str]:
        """Return the lines that a command of compose says."""
        answer = subprocess.run(  # noqa: S603 - our own command
            self.command(*arguments),
            env=machine.passed_on_to_docker(),
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
        return answer.stdout.splitlines()

    def command(self, *arguments: str) -> Sequence[str]:
        """Return the command line of compose that does something with this stack."""
        project = ("-p", self._of.name, "-f", str(self._of.file), "--env-file", str(self._env_file), "--profile", "dev")
        return ("docker", "compose", *project, *arguments)


def require_engine(composition: Composition) -> None:
    """Raise BoxError, in one line, where compose cannot run."""
    asked = {
        "no Docker engine answers": ("docker", "version", "--format", "{{.Server.Version}}"),
        "this Docker has no compose plugin": ("docker", "compose", "version"),
    }
    for why, command in asked.items():
        try:
            answered = subprocess.run(  # noqa: S603 - our own command
                command, env=machine.passed_on_to_docker(), check=False, capture_output=True, timeout=ENGINE_SECONDS_MAX
            )
        except FileNotFoundError:
            raise composition.refusal("docker is not on this machine") from None
        except subprocess.TimeoutExpired:
            raise composition.refusal(why) from None
        if answered.returncode:
            raise composition.refusal(why)
