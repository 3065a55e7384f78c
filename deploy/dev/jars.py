"""Kafka's jars: exactly those of jars.txt, from the user's cache or Maven Central, each checked against its SHA-256.

No POM is read and nothing is resolved: pin_jars.py did that once. Next: broker.py puts them on Java's class path.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import requests
from jgo.maven import MavenContext, PythonResolver
from jgo.util import http

from deploy.dev import settings
from deploy.dev.errors import DownloadRefused
from deploy.dev.voice import Voice

LIST = Path(__file__).with_name("jars.txt")
DOWNLOAD_STALL_SECONDS_MAX = 30


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
        _fetch(missing, cache, voice)
    return [cache / jar.filename for jar in wanted]


def is_intact(path: Path, jar: Jar) -> bool:
    """Tell whether the file is there and is, byte for byte, the listed one."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def one_connection() -> Iterator[None]:
    """Let jgo use one kept connection: it opens one per request otherwise, which made 7 s out of 0.3 s."""
    # jgo has no setting for it; its http module only ever calls requests.request, which a Session answers too.
    with requests.Session() as session, mock.patch.object(http, "requests", session):
        yield


def _fetch(jars: list[Jar], cache: Path, voice: Voice) -> None:
    # Fetched aside and moved: two boxes may fill the cache at once, and a reader never sees half a jar.
    aside = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache))
    size_bytes = sum(jar.size_bytes for jar in jars)
    try:
        with one_connection(), voice.progress("Kafka's jars", size_bytes) as advance:
            maven = _maven(aside)
            for jar in jars:
                fetched = _fetch_one(maven, jar)
                if not is_intact(fetched, jar):
                    raise DownloadRefused(
                        f"Kafka: {jar.filename} is not what {LIST} says (its SHA-256 differs): not used. "
                        "A proxy or mirror may have changed it."
                    )
                os.replace(fetched, cache / jar.filename)
                advance(jar.size_bytes)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _maven(folder: Path) -> MavenContext:
    mirror = settings.maven_mirror()
    return MavenContext(
        resolver=PythonResolver(),
        repo_cache=folder,
        local_repos=[],
        remote_repos={"mirror": mirror} if mirror else None,
        timeout=DOWNLOAD_STALL_SECONDS_MAX,
    )


def _fetch_one(maven: MavenContext, jar: Jar) -> Path:
    try:
        return maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise DownloadRefused(
            f"Kafka: could not fetch {jar.filename}: {error}\n"
            "  Behind a proxy set HTTPS_PROXY, or name a Maven mirror in CB_MAVEN_REPOSITORY."
        ) from error
