"""PostgreSQL over TLS with a verified certificate, by DATABASE_URL alone; against Debian's server, the wheel's knows no TLS.

One server serves every test of this file: its certificate names localhost, and nobody gets in without TLS and a password.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from deploy.dev.processes.ports import any_free
from deploy.ops.cli import app
from shared import settings
from shared.db import engine as engines
from shared.db import health
from shared.db.engine import rows

SERVERS = Path("/usr/lib/postgresql")
MISSING = "no PostgreSQL server with TLS found: run `apt-get update && apt-get install -y --no-install-recommends postgresql`"
PASSWORD = "n0b0dy-guesses"
ONLY_WITH_TLS = "hostssl all all all scram-sha-256\n"
UNPRIVILEGED = 65534 if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
CUT_MAX_SECONDS = 20


@pytest.fixture(scope="module")
def server():
    """Its port, and the file of the authority that signed its certificate."""
    binaries = max((path.parent for path in SERVERS.glob("*/bin/postgres")), default=None)
    if binaries is None and os.environ.get("CB_REQUIRE_TLS_SERVER"):
        pytest.fail(MISSING, pytrace=False)
    if binaries is None:
        pytest.skip(MISSING)
    # Not below pytest's folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="cb-tls-"))
    port = any_free(set())
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "password").write_text(PASSWORD)
    (folder / "server.pem").chmod(0o600)
    as_user = {}
    if UNPRIVILEGED is not None:
        as_user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
        for path in (folder, *folder.iterdir()):
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    initialising = ("-D", folder / "data", "-U", "cb", "-E", "UTF8", "--locale=C", "-N", "-A", "scram-sha-256")
    subprocess.run(
        (binaries / "initdb", *initialising, f"--pwfile={folder / 'password'}"),
        check=True, capture_output=True, cwd="/", **as_user,
    )  # fmt: skip
    (folder / "data" / "pg_hba.conf").write_text(ONLY_WITH_TLS)
    told = {
        "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "ssl": "on",
        "ssl_cert_file": folder / "server.pem", "ssl_key_file": folder / "server.pem",
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            (binaries / "postgres", "-D", folder / "data", "-p", str(port), *(f"--{k}={v}" for k, v in told.items())),
            stdout=log, stderr=log, cwd="/", **as_user,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + CUT_MAX_SECONDS
        while b"ready to accept connections" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield port, folder / "authority.pem"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(CUT_MAX_SECONDS)
        shutil.rmtree(folder)


@pytest.fixture
def address(server):
    """An address of the server; what a test says differs from one that verifies everything."""
    port, authority = server

    def of(*, host="localhost", mode="verify-full", authorities=authority, password=PASSWORD):
        query = f"?sslmode={mode}" + (f"&sslrootcert={authorities}" if authorities else "")
        return f"postgresql://cb:{password}@{host}:{port}/postgres{query}"

    return of


async def ops(url, *arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"DATABASE_URL": url})


async def test_a_verified_server_is_migrated_and_asked_over_tls(address):
    """Both ways to the database, Alembic's and the engine's, take what the address says."""
    migrated = await ops(address(), "migrate")
    engine = engines.create(settings.Database(database_url=address()), application="tests")
    async with engine.begin() as tx:
        [(encrypted,)] = await rows(tx, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    await engine.dispose()

    assert (migrated.exit_code, "ran 0001" in migrated.stdout.splitlines()) == (0, True)
    assert encrypted


async def test_a_certificate_for_another_name_is_refused(address):
    """It names localhost: whoever else shows it, even at the right place, is somebody else."""
    result = await ops(address(host="127.0.0.1"), "attention", "list")

    assert result.exit_code == 1
    assert "certificate is not valid for '127.0.0.1'" in result.stderr


async def test_a_certificate_by_another_authority_is_refused(address, tmp_path):
    """It names the right server and was signed by nobody we know."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for mode in ("verify-full", "verify-ca"):
        result = await ops(address(mode=mode, authorities=tmp_path / "other.pem"), "attention", "list")

        assert result.exit_code == 1
        assert "certificate verify failed" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "disable", "authorities": None}, "no encryption"),
        ({"password": "guessed"}, 'password authentication failed for user "cb"'),
    ],
)
async def test_whoever_is_refused_hears_why_without_a_password(address, changes, reason):
    """One line, which names the reason."""
    result = await ops(address(**changes), "attention", "list")

    assert result.exit_code == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not any(password in result.output for password in (PASSWORD, "guessed"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host": "127.0.0.1"}, ["database: SSLCertVerificationError"]),
        ({"password": "guessed"}, ["database: InvalidPasswordError 28P01"]),
    ],
)
async def test_a_process_that_cannot_trust_its_database_is_not_ready(address, changes, reason):
    """Readiness names it, instead of failing itself."""
    engine = engines.create(settings.Database(database_url=address(**changes)), application="tests")
    assert await health.trouble(engine)() == reason
    await engine.dispose()


def test_nobody_gets_in_without_tls(server):
    """The server itself keeps what this file promises: it answers a client that asks for no TLS with an error."""
    port, _ = server
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        start = b"\x00\x03\x00\x00user\x00cb\x00database\x00postgres\x00\x00"
        plain.sendall((len(start) + 4).to_bytes(4, "big") + start)
        assert plain.recv(1) == b"E"
