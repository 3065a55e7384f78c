"""The pieces that stand in for the outside world: the mailbox and the Stripe sandbox."""

import socket
import sys

from deploy.dev.processes.ports import LOOPBACK
from deploy.dev.processes.process import Piece
from deploy.dev.services.environment import ChosenPorts, url
from deploy.dev.state import PROJECT, Box
from shared.stripe_events import WEBHOOK_PATH

PORTS = ("smtp", "mailbox", "sandbox", "ingress")


def pieces(box: Box, ports: ChosenPorts) -> list[Piece]:
    """Return both; the ingress port, to which the sandbox sends webhooks, must be chosen before."""
    found_by_path = {"PYTHONPATH": str(PROJECT)}
    return [
        Piece(
            name="mailbox",
            command=(
                *(sys.executable, "-m", "deploy.dev.mailbox", "--smtp-port", str(ports["smtp"])),
                *("--http-port", str(ports["mailbox"]), "--state-dir", str(box.home / "mailbox")),
                *("--box", str(box.home)),
            ),
            environment=found_by_path,
            ready=lambda _said: _listens(ports["smtp"]) and _listens(ports["mailbox"]),
        ),
        Piece(
            name="sandbox",
            command=(
                *(sys.executable, "-m", "deploy.dev.stripe", "--port", str(ports["sandbox"])),
                *("--webhook", f"{url(ports['ingress'])}{WEBHOOK_PATH}", "--state-dir", str(box.home / "sandbox")),
            ),
            environment=found_by_path | {"STRIPE_WEBHOOK_SECRET": box.secrets()["STRIPE_WEBHOOK_SECRET"]},
            ready=lambda _said: _listens(ports["sandbox"]),
        ),
    ]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((LOOPBACK, port)) == 0
