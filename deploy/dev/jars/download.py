"""Download jars from Maven Central, or the mirror of CB_MAVEN_REPOSITORY, and check the SHA-256 of each before use."""

import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import requests
from jgo.maven import MavenContext, PythonResolver
from jgo.util import http
from requests.adapters import HTTPAdapter

from deploy.dev import settings
from deploy.dev.errors import DownloadRefused
from deploy.dev.jars.jar_list import LIST, Jar, is_intact
from deploy.dev.terminal import Voice

DOWNLOAD_STALL_SECONDS_MAX = 30


class TrustOfTheSystem(HTTPAdapter):
    """Trusts the system's certificate authorities in addition to those that requests brings.

    A company's proxy that intercepts TLS signs with its own authority, which its machines trust and no package includes.
    """

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        """Let connections begin with what the system trusts."""
        super().init_poolmanager(*given, ssl_context=ssl.create_default_context(), **named)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        """Let connections through a proxy do so, too."""
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **named)


@contextlib.contextmanager
def one_connection() -> Iterator[None]:
    """Let jgo use one kept connection: it opens one per request otherwise, which made 7 s out of 0.3 s."""
    # jgo has no setting for it; its http module only ever calls requests.request, which a Session answers too.
    with requests.Session() as session, mock.patch.object(http, "requests", session):
        session.mount("https://", TrustOfTheSystem())
        yield


def fetch(jars: list[Jar], cache: Path, voice: Voice) -> None:
    """Put the jars into the cache; DownloadRefused names the jar and the reason."""
    size_bytes = sum(jar.size_bytes for jar in jars)
    # Fetched aside and moved: two boxes may fill the cache at once, and a reader never sees half a jar. The folder goes with
    # the process, too, which does not wait for this thread when the box is being ended.
    with (
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as aside,
        one_connection(),
        voice.progress("Kafka's jars", size_bytes) as advance,
    ):
        maven = _maven(Path(aside))
        for jar in jars:
            fetched = _fetch_one(maven, jar)
            if not is_intact(fetched, jar):
                raise DownloadRefused(
                    f"Kafka: {jar.filename} is not what {LIST.name} says (its SHA-256 differs): not used. "
                    "A proxy or mirror may have changed it."
                )
            fetched.replace(cache / jar.filename)
            advance(jar.size_bytes)


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
