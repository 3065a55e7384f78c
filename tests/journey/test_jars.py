"""Kafka's jars: none is believed before its SHA-256 fits, a damaged one heals, and two boxes may fill the cache at once."""

import contextlib
import functools
import hashlib
import http.server
import threading

import pytest

from deploy.dev.errors import DownloadRefused
from deploy.dev.jars import cache
from deploy.dev.terminal import Silence
from tests.support import certificates

GOOD = b"what was pinned"
JAR = cache.Jar(hashlib.sha256(GOOD).hexdigest(), "org.example", "thing", "1.0", len(GOOD))


@contextlib.contextmanager
def maven_repository(tmp_path, monkeypatch, *, certificate=None):
    """A Maven repository on loopback, by TLS where a certificate is given, and an empty cache; where its jar may lie."""
    folder = tmp_path / "maven"
    place = folder / "org/example/thing/1.0"
    place.mkdir(parents=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate is not None:
            server.socket = certificates.serving(certificate).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scheme = "http" if certificate is None else "https"
        monkeypatch.setenv("CB_MAVEN_REPOSITORY", f"{scheme}://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield place / JAR.filename
        server.shutdown()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A Maven repository and an empty cache."""
    with maven_repository(tmp_path, monkeypatch) as place:
        yield place


def test_a_jar_that_is_not_what_was_pinned_is_refused(mirror, tmp_path):
    """A changed download is named and never reaches the cache."""
    mirror.write_bytes(GOOD + b" and more")

    with pytest.raises(DownloadRefused, match=JAR.filename):
        cache.ensure(Silence(), [JAR])

    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_damaged_jar_in_the_cache_is_fetched_anew(mirror):
    """A damaged cache heals itself; an intact one asks nobody."""
    mirror.write_bytes(GOOD)
    [path] = cache.ensure(Silence(), [JAR])
    path.write_bytes(b"damaged")

    assert cache.ensure(Silence(), [JAR]) == [path]
    assert path.read_bytes() == GOOD
    mirror.unlink()
    assert cache.ensure(Silence(), [JAR]) == [path]


def test_a_jar_that_nobody_has_is_named(mirror):
    """The message says which jar, and what may help."""
    with pytest.raises(DownloadRefused, match=f"{JAR.filename}(.|\n)*CB_MAVEN_REPOSITORY"):
        cache.ensure(Silence(), [JAR])


def test_whom_the_system_trusts_may_bring_jars(tmp_path, monkeypatch):
    """A company's proxy that opens TLS shows certificates by an authority that its machines know, and no package does."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    certificate = certificates.make(tmp_path)
    with maven_repository(tmp_path, monkeypatch, certificate=certificate) as place:
        place.write_bytes(GOOD)
        with pytest.raises(DownloadRefused, match="CERTIFICATE_VERIFY_FAILED"):
            cache.ensure(Silence(), [JAR])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        [path] = cache.ensure(Silence(), [JAR])

    assert path.read_bytes() == GOOD


def test_two_boxes_may_fill_the_cache_at_once(mirror):
    """Neither sees half a jar, and nothing is left lying beside them."""
    mirror.write_bytes(GOOD)
    results = []
    fetching = [threading.Thread(target=lambda: results.append(cache.ensure(Silence(), [JAR]))) for _ in range(8)]
    for one in fetching:
        one.start()
    for one in fetching:
        one.join()

    assert {path.read_bytes() for [path] in results} == {GOOD}
    assert len(results) == len(fetching)
    assert [entry.name for entry in results[0][0].parent.iterdir()] == [JAR.filename]
