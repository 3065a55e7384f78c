"""What runs in a box, and in which order it comes up. Services = database and broker.

Tests and development use `Services` directly; supervisor.py adds the pipeline and keeps all of it up.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.dev import broker, database, jars, ports
from deploy.dev.errors import PieceFailed
from deploy.dev.process import Piece, Running, end_left_over
from deploy.dev.state import Box
from deploy.dev.voice import Silence, Voice

# Between our look and the start of a process another box may take its port.
PORT_TRIES = 3


class Services:
    """The database and the broker of one box.

    `database` and `broker` are there after `start`: a test of bad days may `stop`, `kill` and `start` each by itself;
    both keep their port and their data.
    """

    database: Running
    broker: Running

    def __init__(self, home: Path | None = None, *, durable: bool = True, voice: Voice | None = None) -> None:
        """Take the folder of the box (default: `.dev/` of the project).

        `durable=False` is for tests: PostgreSQL does not sync to disk, and the usual ports are left to others.
        """
        self.box = Box(home)
        self.ports = Ports(self.box, usual=durable)
        self._durable = durable
        self._voice = voice or Silence()

    def start(self) -> dict[str, str]:
        """Bring both up side by side; returns the environment that leads to them.

        Ends what an earlier run of this box left over. AlreadyUp when another process runs this box, PieceFailed and
        DownloadRefused when a piece cannot come up; nothing is left running then.
        """
        self.box.take()
        try:
            for name in end_left_over(self.box):
                self._voice.say(name, "ended what an earlier run left over")
            self._start_both()
        except BaseException:
            self.stop()
            raise
        return self.environment()

    def environment(self) -> dict[str, str]:
        """Return the variables by which any process finds the services."""
        return {
            "DATABASE_URL": database.url(self.ports["database"]),
            "KAFKA_BOOTSTRAP_SERVERS": f"{ports.LOOPBACK}:{self.ports['broker']}",
        }

    def stop(self) -> None:
        """End both; the data stays. May be called at any time, also twice."""
        started = [piece for name in ("database", "broker") if (piece := getattr(self, name, None)) is not None]
        stop_all(started)
        self.box.release()

    def _start_both(self) -> None:
        with ThreadPoolExecutor(max_workers=2) as pool:
            both = [pool.submit(self._start_database), pool.submit(self._start_broker)]
        for one in both:
            one.result()

    def _start_database(self) -> None:
        begun = time.monotonic()

        def prepared() -> Piece:
            return database.prepare(self.box, self.ports.take("database"), durable=self._durable)

        start_where_free(self.box, prepared, lambda running: setattr(self, "database", running))
        self._voice.ready("database", f"PostgreSQL on port {self.ports['database']}", begun)

    def _start_broker(self) -> None:
        paths = jars.ensure(self._voice)
        begun = time.monotonic()

        def prepared() -> Piece:
            return broker.prepare(self.box, self.ports.take("broker"), self.ports.take("controller"), paths)

        start_where_free(self.box, prepared, lambda running: setattr(self, "broker", running))
        self._voice.ready("broker", f"Kafka on port {self.ports['broker']}", begun)


class Ports:
    """The ports of one box, chosen one by one and remembered for its next start."""

    def __init__(self, box: Box, *, usual: bool) -> None:
        self._box = box
        self._usual = usual
        self._chosen: dict[str, int] = {}
        # Database and broker take theirs side by side.
        self._guard = threading.Lock()

    def __getitem__(self, name: str) -> int:
        return self._chosen[name]

    def take(self, name: str) -> int:
        """Choose a free port for this piece, now."""
        candidates = [ports.USUAL[name] if self._usual else None, self._box.read("ports").get(name)]
        others = {port for other, port in self._chosen.items() if other != name}
        self._chosen[name] = port = ports.choose(candidates, avoid=others)
        with self._guard:
            self._box.write("ports", self._box.read("ports") | {name: port})
        return port


def start_where_free(box: Box, prepared: Callable[[], Piece], started: Callable[[Running], None]) -> None:
    """Start a piece; when its port was taken meanwhile, prepare it again with another one."""
    tries = 1
    while True:
        running = Running(prepared(), box)
        started(running)
        try:
            return running.start()
        except PieceFailed as failure:
            if tries == PORT_TRIES or "address already in use" not in failure.why.lower():
                raise
            tries += 1


def stop_all(pieces: Iterable[Running]) -> None:
    """Ask all to stop at once, then wait for each."""
    pieces = list(pieces)
    for piece in pieces:
        piece.ask_to_stop()
    for piece in pieces:
        piece.stop()
