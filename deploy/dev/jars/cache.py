"""Kafka's jars: exactly those of jars.txt, from the user's cache or Maven Central, each checked against its SHA-256.

No POM is read and nothing is resolved: pin.py did that once. Next: download.py fetches what is missing;
services/broker.py puts all on Java's class path.
"""

from collections.abc import Iterable
from pathlib import Path

from deploy.dev import settings
from deploy.dev.jars.jar_list import Jar, is_intact, listed
from deploy.dev.terminal import Voice


def ensure(voice: Voice, jars: Iterable[Jar] | None = None) -> list[Path]:
    """Return the paths of all jars, fetching what the cache lacks; DownloadRefused names the jar and the reason."""
    wanted = listed() if jars is None else list(jars)
    cache = settings.cache_folder() / "jars"
    cache.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in wanted if not is_intact(cache / jar.filename, jar)]
    if missing:
        # Its libraries take a third of a second to import, and are needed once in a machine's life.
        from deploy.dev.jars import download  # noqa: PLC0415 - see above

        download.fetch(missing, cache, voice)
    return [cache / jar.filename for jar in wanted]
