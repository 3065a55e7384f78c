"""Where a purchase is made: the addresses, a client's token, and where to look when a hop is missing.

Next: story.py shows a purchase in any target; compose.py has the other one.
"""

import http.client
import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from deploy.dev.box import control
from deploy.dev.processes import process
from deploy.dev.seed import token
from deploy.dev.state import Box

HEALTH_SECONDS_MAX = 2
LOG_LINES = 6


class Target(Protocol):
    """A running pipeline with its mailbox and Stripe sandbox."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables by which it is reached, as `cb-dev env` names them."""

    @property
    def token(self) -> str:
        """A bearer token of the client."""

    def look(self, piece: str) -> Sequence[str]:
        """Return how a piece is, what it said last, and where the rest stands."""


class BoxTarget:
    """A whole box that is up; BoxError when it is not."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self.variables = control.environment_of_whole(box)
        self.token = token.issue(box, "client")

    def look(self, piece: str) -> Sequence[str]:
        """Ask the piece for its health, and read the end of its log."""
        log = self._box.logs / f"{piece}.log"
        return [f"{piece} {self._condition(piece)}", *(f"| {line}" for line in _last_lines(log)), f"its log: {log}"]

    def _condition(self, piece: str) -> str:
        """Return how a piece is, as the end of a sentence that begins with its name."""
        if piece not in process.remembered(self._box):
            return "does not run"
        address = self.variables.get(f"CB_DEV_{piece.upper()}_HEALTH_URL")
        if address is None:
            return "runs"
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=HEALTH_SECONDS_MAX)
        try:
            connection.request("GET", "/health/ready")
            reasons = json.loads(connection.getresponse().read())["reasons"]
        except (OSError, http.client.HTTPException):
            return "runs and does not answer for its health"
        finally:
            connection.close()
        return f"is not ready: {'; '.join(reasons)}" if reasons else "runs and calls itself ready"


def _last_lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open(errors="replace") as lines:
        return [line.rstrip() for line in deque(lines, LOG_LINES)]
