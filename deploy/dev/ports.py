"""Which loopback port a piece of the box gets: the usual one when free, else the one it had before, else any."""

import contextlib
import socket
from collections.abc import Collection, Iterable

LOOPBACK = "127.0.0.1"
# The ports that a developer expects; the names are those of the state file, too.
USUAL = {
    "database": 5432,
    "broker": 9092,
    "controller": 9093,
    "ingress": 8000,
    "ingress-health": 8001,
    "payments-health": 8011,
    "bookings-health": 8012,
    "email-health": 8013,
    "smtp": 1025,
    "mailbox": 8025,
    "sandbox": 12111,
}


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


def choose(candidates: Iterable[int | None], avoid: Collection[int]) -> int:
    """Return the first candidate that is free and not to be avoided, else any free port."""
    for port in candidates:
        if port is not None and port not in avoid and is_free(port):
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
