"""Which loopback port a piece of the box gets: the usual one when free, else the one it had before, else any."""

import contextlib
import socket
import threading
from collections.abc import Collection, Iterable

import filelock

from deploy.dev import settings
from deploy.dev.state import Box

LOOPBACK = "127.0.0.1"
# The ports that a developer expects; the names are those of the state file, too.
USUAL = {
    "database": 5432,
    "broker": 9092,
    "controller": 9093,
    "broker-2": 9094,
    "controller-2": 9095,
    "broker-3": 9096,
    "controller-3": 9097,
    "ingress": 8000,
    "ingress-health": 8001,
    "payments-health": 8011,
    "bookings-health": 8012,
    "email-health": 8013,
    "smtp": 1025,
    "mailbox": 8025,
    "sandbox": 12111,
}


class Ports:
    """The ports of one box, chosen one by one and remembered for its next start.

    A usual port is reserved against this user's other boxes as soon as it is chosen: its process may bind it seconds later.
    """

    def __init__(self, box: Box, *, usual: bool) -> None:
        self._box = box
        self._usual = usual
        self._chosen: dict[str, int] = {}
        self._reserved: dict[int, filelock.FileLock] = {}
        # Database and broker take theirs side by side.
        self._guard = threading.Lock()

    def __getitem__(self, name: str) -> int:
        return self._chosen[name]

    def take(self, name: str) -> int:
        """Choose a free port for this name, now."""
        with self._guard:
            remembered = self._box.read("ports")
            candidates = [USUAL[name] if self._usual else None, remembered.get(name)]
            others = {port for other, port in self._chosen.items() if other != name}
            mine = [port for port in candidates if port is not None and self._reserve(port)]
            self._chosen[name] = port = choose(mine, avoid=others)
            self._box.write("ports", remembered | {name: port})
        return port

    def release(self) -> None:
        """Let other boxes have the ports."""
        for lock in self._reserved.values():
            lock.release()
        self._reserved.clear()

    def _reserve(self, port: int) -> bool:
        if port in self._reserved or port not in USUAL.values():
            return True
        folder = settings.cache_folder() / "ports"
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{port}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        self._reserved[port] = lock
        return True


def is_free(port: int) -> bool:
    """Tell whether nobody listens there now; another may take it before we do, so starting must cope with that."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        if probe.connect_ex((LOOPBACK, port)) == 0:
            return False
    with socket.socket() as probe:
        # Else a connection that only lingers (TIME_WAIT) would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(candidates: Iterable[int], avoid: Collection[int]) -> int:
    """Return the first candidate that is free and not to be avoided, else any free port."""
    for port in candidates:
        if port not in avoid and is_free(port):
            return port
    return any_free(avoid)


def any_free(avoid: Collection[int]) -> int:
    """Return a port that the system says is free."""
    with contextlib.ExitStack() as held:
        while True:
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
            if port not in avoid:
                return port
