"""The database and the broker of a box, and starting and stopping pieces.

Tests and development use `Services` directly. Next: box/whole_box.py adds all the rest.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from deploy.dev.errors import PieceFailed
from deploy.dev.jars import cache
from deploy.dev.processes import ports
from deploy.dev.processes.process import Piece, Running, end_left_over, end_steps, noted
from deploy.dev.services import broker, class_archive, database, environment, keys
from deploy.dev.state import Box
from deploy.dev.terminal import Silence, Voice

# Between our look and the start of a process another box may take its port.
PORT_TRIES = 3


class Services:
    """The database and the broker of one box.

    After `start` a failure test may `stop`, `kill` and `start` each of `database` and `broker`; both keep port and data.
    """

    is_whole = False

    def __init__(
        self,
        home: Path | None = None,
        *,
        durable: bool = True,
        voice: Voice | None = None,
        brokers: int | None = None,
        secure: bool = False,
    ) -> None:
        """Take the folder of the box (default: `.dev/` of the project).

        `durable=False` is for tests: PostgreSQL does not sync to disk, so that only a crash of the machine may lose
        something, and the usual ports are left to others. `brokers` is their number, 1 or 3 (default: what the box has);
        `secure` locks them (keys.py), which a box keeps.
        """
        self.box = Box(home)
        self.running: dict[str, Running] = {}
        self.ports = ports.Ports(self.box, usual=durable)
        self._durable = durable
        self._brokers_asked = brokers
        self._secure_asked = secure
        self.brokers = 1
        self.voice = voice or Silence()

    @property
    def database(self) -> Running:
        """The database's process; after `start`."""
        return self.running["database"]

    @property
    def broker(self) -> Running:
        """The broker's process; after `start`."""
        return self.running["broker"]

    def start(self) -> dict[str, str]:
        """Bring all up, side by side where possible; returns the environment that leads to it.

        Ends what an earlier run of this box left over. AlreadyUp when another process runs this box, PieceFailed and
        DownloadRefused when a piece cannot come up; nothing is left running then.
        """
        self.box.take()
        try:
            self.brokers = broker.count(self.box, self._brokers_asked)
            if broker.is_secured(self.box, asked=self._secure_asked):
                keys.make(self.box)
            self._note(ready=False)
            for name in end_left_over(self.box):
                self.voice.say(name, "ended what an earlier run had left")
            self.bring_up()
            self._note(ready=True)
        except BaseException:
            self.stop()
            raise
        return self.environment()

    def environment(self) -> dict[str, str]:
        """Return the variables by which any process reaches what runs."""
        return environment.of_services(self.box, self.ports, brokers=self.brokers)

    def stop(self) -> None:
        """End all; the data stays. May be called at any time, also twice."""
        self.box.begin_to_end()
        end_steps(self.box)
        stop_all(self.running.values())
        self.running.clear()
        if self.box.lock.is_locked:
            self.box.forget("box")
            self.ports.release()
            self.box.release()

    def bring_up(self) -> None:
        """Start what belongs to this kind of box; called once, by `start`."""
        concurrently(self.start_database, self.start_broker)

    def start_database(self) -> None:
        """Bring the database up."""
        begun = time.monotonic()
        self.start_together(lambda: [database.prepare(self.box, self.ports.take("database"), durable=self._durable)])
        self.voice.ready("database", f"PostgreSQL on port {self.ports['database']}", begun)

    def start_broker(self) -> None:
        """Fetch what the brokers need, and bring them up."""
        paths = cache.ensure(self.voice)
        begun = time.monotonic()

        def prepared() -> list[Piece]:
            nodes = [
                broker.Node(number, self.ports.take(broker.name(number)), self.ports.take(broker.controller_name(number)))
                for number in range(1, self.brokers + 1)
            ]
            return broker.prepare(self.box, nodes, paths)

        self.start_together(prepared)
        told = ", ".join(str(self.ports[broker.name(number)]) for number in range(1, self.brokers + 1))
        locked = " (SASL_SSL)" if keys.passwords(self.box) else ""
        self.voice.ready("broker", f"Kafka on port {told}{locked}", begun)
        if not (archive := class_archive.path(paths)).exists():
            class_archive.make(self.broker, archive)

    def start_together(self, prepared: Callable[[], Sequence[Piece]]) -> None:
        """Start pieces together; when a port was taken meanwhile, prepare them again with others."""
        tries = 1
        while True:
            started = [Running(piece, self.box) for piece in prepared()]
            self.running |= {running.piece.name: running for running in started}
            try:
                start_all(started)
            except PieceFailed as failure:
                if tries == PORT_TRIES or "address already in use" not in failure.said.lower():
                    raise
                # Those beside it are asked for again, too.
                stop_all(started)
                tries += 1
            else:
                return

    def _note(self, *, ready: bool) -> None:
        self.box.write(
            "box",
            {
                **noted(psutil.Process()),
                "ready": ready,
                "whole": self.is_whole,
                "environment": self.environment() if ready else {},
                "database_folder": str(database.folder(self.box)),
            },
        )


def start_all(pieces: Sequence[Running]) -> None:
    """Start all at once, then wait until each is ready; PieceFailed for the first that is not."""
    for piece in pieces:
        piece.spawn()
    for piece in pieces:
        piece.wait_ready()


def stop_all(pieces: Iterable[Running]) -> None:
    """Ask all to stop at once, then wait for each."""
    pieces = list(pieces)
    for piece in pieces:
        piece.ask_to_stop()
    for piece in pieces:
        piece.stop()


def concurrently(*calls: Callable[[], None]) -> None:
    """Run the calls side by side; the first error is raised at once, without waiting for the others.

    Their threads end by themselves: once the box is being stopped, no process is started, and those that they wait for end.
    """
    ended = threading.Semaphore(0)
    errors: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            errors.append(error)
        ended.release()

    for call in calls:
        threading.Thread(target=run, args=(call,), daemon=True).start()
    for _ in calls:
        ended.acquire()
        if errors:
            raise errors[0]
