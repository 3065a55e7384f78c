"""Kafka's jars: none is believed before its SHA-256 fits, a damaged one heals, and two boxes may fill the cache at once."""

import functools
import hashlib
import http.server
import threading

import pytest

from deploy.dev import jars
from deploy.dev.errors import DownloadRefused
from deploy.dev.voice import Silence

GOOD = b"what was pinned"
JAR = jars.Jar(hashlib.sha256(GOOD).hexdigest(), "org.example", "thing", "1.0", len(GOOD))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A Maven repository on loopback, and an empty cache."""
    folder = tmp_path / "maven"
    place = folder / "org/example/thing/1.0"
    place.mkdir(parents=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CB_MAVEN_REPOSITORY", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield place / JAR.filename
        server.shutdown()


def test_a_jar_that_is_not_what_was_pinned_is_refused(mirror, tmp_path):
    """A changed download is named and never reaches the cache."""
    mirror.write_bytes(GOOD + b" and more")

    with pytest.raises(DownloadRefused, match=JAR.filename):
        jars.ensure(Silence(), [JAR])

    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_damaged_jar_in_the_cache_is_fetched_anew(mirror):
    """A damaged cache heals itself; an intact one asks nobody."""
    mirror.write_bytes(GOOD)
    [path] = jars.ensure(Silence(), [JAR])
    path.write_bytes(b"damaged")

    assert jars.ensure(Silence(), [JAR]) == [path]
    assert path.read_bytes() == GOOD
    mirror.unlink()
    assert jars.ensure(Silence(), [JAR]) == [path]


def test_a_jar_that_nobody_has_is_named(mirror):
    """The message says which jar, and what may help."""
    with pytest.raises(DownloadRefused, match=f"{JAR.filename}(.|\n)*CB_MAVEN_REPOSITORY"):
        jars.ensure(Silence(), [JAR])


def test_two_boxes_may_fill_the_cache_at_once(mirror):
    """Neither sees half a jar, and nothing is left lying beside them."""
    mirror.write_bytes(GOOD)
    results = []
    fetching = [threading.Thread(target=lambda: results.append(jars.ensure(Silence(), [JAR]))) for _ in range(8)]
    for one in fetching:
        one.start()
    for one in fetching:
        one.join()

    assert {path.read_bytes() for [path] in results} == {GOOD}
    assert len(results) == len(fetching)
    assert [entry.name for entry in results[0][0].parent.iterdir()] == [JAR.filename]
