"""What the box takes from the machine's environment; the only place of deploy/dev that reads it.

The pipeline's own variables are not read here: services/environment.py makes them up, and the box hands them to what it starts.
"""

import errno
import os
from pathlib import Path

from deploy.dev.errors import BoxError

# Only these pass from the developer's shell to the box's processes: a stray DATABASE_URL must not reach them.
PASSED_ON = frozenset(
    {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
)
# What docker needs beside: its engine, and the way to registries. What docker-compose.yml asks for comes from an env file.
DOCKER = ("DOCKER_", "BUILDX_", "BUILDKIT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# A kill -9 between the birth of a process and the note about it leaves this mark in the process itself.
BOX_MARK = "CB_DEV_BOX"


def passed_on() -> dict[str, str]:
    """Return the part of this environment that the box's processes may see."""
    return {name: value for name, value in os.environ.items() if name in PASSED_ON}  # noqa: TID251 - its home here


def forget_other_databases() -> None:
    """Forget what the shell says of databases elsewhere: with its PGSSLMODE asyncpg would ask the box's own for TLS."""
    for name in [name for name in os.environ if name.startswith("PG")]:  # noqa: TID251 - its home here
        del os.environ[name]  # noqa: TID251 - its home here


def marked(box: Path) -> dict[str, str]:
    """Return this environment for one of our processes, marked as belonging to the box in this folder."""
    return {**os.environ, BOX_MARK: str(box)}  # noqa: TID251 - its home here


def passed_on_to_docker() -> dict[str, str]:
    """Return the part of this environment that docker and its compose may see."""
    mine = {name: value for name, value in os.environ.items() if name.upper().startswith(DOCKER)}  # noqa: TID251 - its home here
    return passed_on() | mine


def cache_folder() -> Path:
    """Return the folder for downloads shared by all boxes of this user (XDG Base Directory, `XDG_CACHE_HOME`), made.

    BoxError when it cannot be created: the home folder is read-only, or missing.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"  # noqa: TID251 - its home here
        folder = Path(base) / "culturebridge-payments"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except (OSError, RuntimeError) as error:
        raise BoxError(f"downloads cannot be kept: {error}\n  Name another folder for them in XDG_CACHE_HOME.") from error
    return folder


def maven_mirror() -> str | None:
    """Return the address of a Maven repository to use in place of Maven Central (`CB_MAVEN_REPOSITORY`), if any."""
    return os.environ.get("CB_MAVEN_REPOSITORY") or None  # noqa: TID251 - its home here
