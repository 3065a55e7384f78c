"""What may go wrong with the box. Every message says which piece, why, and where to look.

BoxError
├── PieceFailed      a process did not become ready, or a preparation of it failed
├── DownloadRefused  a jar could not be fetched, or is not what the list says
└── AlreadyUp        another cb-dev holds this box
"""

from pathlib import Path


class BoxError(Exception):
    """Something a developer has to know; shown as one message, without a traceback."""


class PieceFailed(BoxError):
    """A piece of the box did not come up."""

    def __init__(self, piece: str, why: str, log: Path) -> None:
        super().__init__(f"{piece}: {why}\n  its log: {log}")
        self.piece = piece
        self.why = why
        self.log = log


class DownloadRefused(BoxError):
    """A jar could not be fetched, or its SHA-256 is not the listed one."""


class AlreadyUp(BoxError):
    """Another process runs this box."""
