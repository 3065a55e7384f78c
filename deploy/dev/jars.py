"""Kafka's jars: exactly those of jars.txt, from the user's cache or Maven Central, each checked against its SHA-256.

No POM is read and nothing is resolved: pin_jars.py did that once. Next: download.py fetches what is missing; broker.py
puts all on Java's class path.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.dev import settings
from deploy.dev.voice import Voice

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


def ensure(voice: Voice, jars: Iterable[Jar] | None = None) -> list[Path]:
    """Return the paths of all jars, fetching what the cache lacks; DownloadRefused names the jar and the reason."""
    wanted = listed() if jars is None else list(jars)
    cache = settings.cache_folder() / "jars"
    cache.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in wanted if not is_intact(cache / jar.filename, jar)]
    if missing:
        # Its libraries take a third of a second to import, and are needed once in a machine's life.
        from deploy.dev import download  # noqa: PLC0415 - see above

        download.fetch(missing, cache, voice)
    return [cache / jar.filename for jar in wanted]


def is_intact(path: Path, jar: Jar) -> bool:
    """Tell whether the file is there and is, byte for byte, the listed one."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False
