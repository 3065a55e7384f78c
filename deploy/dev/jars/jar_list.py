"""The list of Kafka's jars, jars.txt, and what it says of each: coordinates, size, SHA-256. Next: cache.py, download.py."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("jars.txt")


@dataclass(frozen=True)
class Jar:
    """One line of the list."""

    sha256: str
    group: str
    artifact: str
    version: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.sha256} {self.group}:{self.artifact}:{self.version} {self.size_bytes}"

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    @classmethod
    def parse(cls, line: str) -> "Jar":
        """Read one line of the list; ValueError when it is none."""
        sha256, coordinates, size = line.split()
        group, artifact, version = coordinates.split(":")
        return cls(sha256, group, artifact, version, int(size))


def listed() -> list[Jar]:
    """Return the pinned jars."""
    return [Jar.parse(line) for line in LIST.read_text().splitlines()]


def is_intact(path: Path, jar: Jar) -> bool:
    """Tell whether the file is there and is, byte for byte, the listed one."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False
