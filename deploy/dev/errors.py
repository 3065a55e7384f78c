"""What may go wrong with the box. Every message says which piece, why, and where to look.

BoxError
├── PieceFailed      a process did not become ready, or a preparation of it failed
├── DownloadRefused  a jar could not be fetched, or is not what the list says
└── AlreadyUp        another cb-dev holds this box
"""

import re
from pathlib import Path

TELLING = re.compile(r"\b(error|fatal|panic|exception|cannot|could not)\b|\w+(Error|Exception)\b", re.IGNORECASE)
LINES_MAX = 8


class BoxError(Exception):
    """Something a developer has to know; shown as one message, without a traceback."""


class PieceFailed(BoxError):
    """A piece of the box did not come up; `said` is what it logged meanwhile, of which the message shows the point."""

    def __init__(self, piece: str, why: str, log: Path, said: str = "") -> None:
        super().__init__("\n".join([f"{piece}: {why}", *_point(said), f"  its log: {log}"]))
        self.piece = piece
        self.said = said
        self.log = log


class DownloadRefused(BoxError):
    """A jar could not be fetched, or its SHA-256 is not the listed one."""


class AlreadyUp(BoxError):
    """Another process runs this box."""


def _point(said: str) -> list[str]:
    lines = said.splitlines()
    telling = [line for line in lines if TELLING.search(line)] if len(lines) > LINES_MAX else []
    return [f"  | {line}" for line in (telling or lines)[-LINES_MAX:]]
