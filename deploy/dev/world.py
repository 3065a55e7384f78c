"""The pieces that stand for the world around us: the mailbox and the Stripe sandbox."""

import socket
import sys
from collections.abc import Mapping

from deploy.dev.environment import ChosenPorts
from deploy.dev.pipeline import WEBHOOK_PATH
from deploy.dev.ports import LOOPBACK
from deploy.dev.process import Piece
from deploy.dev.state import PROJECT, Box

PORTS = ("smtp", "mailbox", "sandbox")


def pieces(box: Box, environment: Mapping[str, str], ports: ChosenPorts) -> list[Piece]:
    """Return both; `environment` is the box's own (environment.of_whole_box)."""
    found_by_path = {"PYTHONPATH": str(PROJECT)}
    return [
        Piece(
            name="mailbox",
            command=(
                *(sys.executable, "-m", "deploy.dev.mailbox", "--smtp-port", str(ports["smtp"])),
                *("--http-port", str(ports["mailbox"]), "--state-dir", str(box.home / "mailbox")),
            ),
            environment=found_by_path,
            ready=lambda _said: _listens(ports["smtp"]) and _listens(ports["mailbox"]),
        ),
        Piece(
            name="sandbox",
            command=(
                *(sys.executable, "-m", "deploy.dev.stripe", "--port", str(ports["sandbox"])),
                *("--webhook", f"{environment['CB_DEV_INGRESS_URL']}{WEBHOOK_PATH}"),
                *("--secret", environment["STRIPE_WEBHOOK_SECRET"], "--state-dir", str(box.home / "sandbox")),
            ),
            environment=found_by_path,
            ready=lambda _said: _listens(ports["sandbox"]),
        ),
    ]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((LOOPBACK, port)) == 0
