"""The variables of a box: its own processes get them, and `cb-dev env` prints them so that other processes can join.

Their meaning stands in the table of README.md; shared/environment.py reads them.
"""

import shlex
from collections.abc import Mapping
from typing import Protocol

from deploy.dev.processes.ports import LOOPBACK
from deploy.dev.services import broker, database, keys
from deploy.dev.state import Box

LETTERS_FROM = "noreply@culturebridge.example"
# The web application of CultureBridge, and where its developers run it; Vite's port is the last.
FRONTENDS = ("https://app.culturebridge.com", "http://localhost:3000", "http://localhost:5173")
HEALTH = ("ingress", "payments", "bookings", "email")


class ChosenPorts(Protocol):
    """Ports by the names of ports.USUAL."""

    def __getitem__(self, name: str) -> int:
        """Return the port of that name."""


def of_services(box: Box, ports: ChosenPorts, *, brokers: int) -> dict[str, str]:
    """Return the variables of database and broker, and the box's own secrets, so that a process can be run by hand."""
    return {
        "DATABASE_URL": database_url(ports),
        **of_cluster(box, ports, brokers=brokers),
        **box.secrets(),
        "CHECKOUT_ALLOWED_ORIGINS": ",".join(FRONTENDS),
    }


def of_cluster(box: Box, ports: ChosenPorts, *, brokers: int) -> dict[str, str]:
    """Return what leads an operator to the brokers; the pipeline's processes have users of their own (keys.variables)."""
    return {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(ports, brokers=brokers), **keys.variables(box, keys.OPERATOR)}


def of_whole_box(box: Box, ports: ChosenPorts, *, brokers: int) -> dict[str, str]:
    """Return all variables of the pipeline's processes, and the addresses that a person or a test needs.

    HEALTH_PORT differs from process to process: the box has a variable of its own for each.
    """
    mailbox, sandbox = url(ports["mailbox"]), url(ports["sandbox"])
    origins = (*FRONTENDS, url(ports["ingress"]), f"http://localhost:{ports['ingress']}", mailbox, sandbox)
    return {
        **of_services(box, ports, brokers=brokers),
        "STRIPE_API_BASE": sandbox,
        "SMTP_HOST": LOOPBACK,
        "SMTP_PORT": str(ports["smtp"]),
        "SMTP_SECURITY": "none",
        "SMTP_FROM_EMAIL": LETTERS_FROM,
        "CHECKOUT_ALLOWED_ORIGINS": ",".join(origins),
        "INGRESS_HOST": LOOPBACK,
        "INGRESS_PORT": str(ports["ingress"]),
        "CB_DEV_INGRESS_URL": url(ports["ingress"]),
        "CB_DEV_MAILBOX_URL": mailbox,
        "CB_DEV_SANDBOX_URL": sandbox,
        **{f"CB_DEV_{name.upper()}_HEALTH_URL": url(ports[f"{name}-health"]) for name in HEALTH},
    }


def database_url(ports: ChosenPorts) -> str:
    """Return where the database is."""
    return database.url(ports["database"])


def bootstrap_servers(ports: ChosenPorts, *, brokers: int) -> str:
    """Return where the brokers are."""
    return ",".join(f"{LOOPBACK}:{ports[broker.name(number)]}" for number in range(1, brokers + 1))


def url(port: int) -> str:
    """Return the address of a loopback port."""
    return f"http://{LOOPBACK}:{port}"


def exports(variables: Mapping[str, str]) -> str:
    """Return the variables as lines that any shell may evaluate."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
