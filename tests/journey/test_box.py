"""The box on bad days: crashes, taken ports, neighbours. Real processes throughout.

Most of it happens to one box, which each test finds up: what a test has ended is started again where the next one wants it.
"""

import os
import socket
from pathlib import Path

import psutil
import pytest

from deploy.dev.box import control
from deploy.dev.errors import AlreadyUp, PieceFailed
from deploy.dev.processes import ports
from deploy.dev.processes.process import remembered
from deploy.dev.services import class_archive, environment
from deploy.dev.services.stack import Services
from deploy.dev.state import Box
from deploy.dev.terminal import Silence
from tests.journey.kept import admin, connection, found, leave_something, spoil_the_database
from tests.support.waiting import until_blocking


class DatabaseAlone(Services):
    """For what is said of the database only: no broker beside it."""

    def bring_up(self):
        self.start_database()

    def environment(self):
        return {}


@pytest.fixture
def make(tmp_path):
    """Make services in folders of this test's own; ended and removed afterwards."""
    made = []

    def one(name="box", kind=Services):
        made.append(kind(tmp_path / name, durable=False))
        return made[-1]

    yield one
    for services in made:
        services.stop()
    for folder in tmp_path.iterdir():
        control.reset(Box(folder), Silence())


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Where the first broker of a machine would write its classes down: nobody has done so yet."""
    with pytest.MonkeyPatch.context() as patch:
        archive = tmp_path_factory.mktemp("cache") / "kafka.jsa"
        patch.setattr(class_archive, "path", lambda _jars: archive)
        yield archive
        archive.unlink(missing_ok=True)


class Shared:
    """The box that most tests share; whoever finds it down brings it up, as a start of another day would."""

    def __init__(self, home):
        self._home = home
        self.services = None

    def up(self):
        """Return its services, which run; of the last ones only the folder is left."""
        if self.services is None or not self.services.running:
            self.services = Services(self._home, durable=False)
            self.services.start()
        return self.services


@pytest.fixture(scope="module")
def shared(archive, tmp_path_factory):
    """The first box of its machine; ended and removed after the last test."""
    folder = tmp_path_factory.mktemp("shared") / "box"
    shared = Shared(folder)
    yield shared
    if shared.services is not None:
        shared.services.stop()
    control.reset(Box(folder), Silence())


@pytest.fixture
def services(shared):
    """The shared box, up."""
    return shared.up()


def beside(running):
    """The files where a piece works, which is in the box."""
    where = Path(psutil.Process(running.pid).cwd())
    assert where.is_relative_to(running.box.home)
    return [*where.iterdir()]


def test_a_box_has_one_holder(services):
    """A second start of the same folder is refused and disturbs nothing."""
    with pytest.raises(AlreadyUp):
        Services(services.box.home, durable=False).start()

    assert services.broker.is_alive()
    assert services.database.is_alive()


async def test_a_single_piece_can_go_and_come_back_where_it_was(services, archive):
    """A test of bad days takes away the broker or the database alone; addresses and data stay.

    The first broker has written its classes down for the next ones, so that this one starts faster; what Java told of that in
    files of its own is gone.
    """
    env = services.environment()
    mark = await leave_something(env)
    until_blocking(archive.exists, "the classes are written down")
    assert [file for file in beside(services.broker) if file.name.startswith("java_pid")] == []

    services.broker.stop()
    services.database.kill()
    services.database.start()
    services.broker.start()

    assert await found(env, mark) == ([mark], mark)
    assert str(archive) in {mapped.path for mapped in psutil.Process(services.broker.pid).memory_maps()}


async def test_two_boxes_in_two_folders_do_not_meet(services, make):
    """Each has its own rows and topics, and the end of one is not felt by the other.

    The other had the ports of this one last time: it takes others and says which.
    """
    env = services.environment()
    mark = await leave_something(env)
    other = make()
    other.box.write("ports", {"database": services.ports["database"], "broker": services.ports["broker"]})
    other_env = other.start()

    assert other_env["DATABASE_URL"] != env["DATABASE_URL"]
    assert other_env["KAFKA_BOOTSTRAP_SERVERS"] != env["KAFKA_BOOTSTRAP_SERVERS"]
    theirs = await leave_something(other_env)
    async with connection(other_env) as connected:
        assert await connected.fetchval(f"select to_regclass('{mark}')") is None
    async with admin(other_env["KAFKA_BOOTSTRAP_SERVERS"]) as kafka:
        assert await kafka.list_topics() == [theirs]
    other.stop()

    assert await found(env, mark) == ([mark], mark)


async def test_kill_9_of_broker_and_database_loses_nothing_though_their_ports_are_taken(shared, monkeypatch):
    """Both come up again by themselves in the same folder, with every row and record.

    Somebody else takes their ports between our look, which says free, and the start: others are tried.
    """
    services = shared.up()
    mark = await leave_something(services.environment())

    services.broker.kill()
    services.database.kill()
    services.stop()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [first.getsockname()[1], second.getsockname()[1]]
        services.box.write("ports", dict(zip(("database", "broker"), taken, strict=True)))
        looks = dict.fromkeys(taken, 1)
        really = ports.is_free
        monkeypatch.setattr(ports, "is_free", lambda port: looks.pop(port, 0) == 1 or really(port))
        env = shared.up().environment()

    assert not looks
    assert await found(env, mark) == ([mark], mark)


def test_a_failure_names_piece_reason_and_log_and_leaves_nothing_running(make):
    """A database that cannot start tells what it said; the broker beside it is ended."""
    services = make()
    spoil_the_database(services.box)

    with pytest.raises(PieceFailed, match=r"postgresql\.conf") as failure:
        services.start()

    assert failure.value.piece == "database"
    assert str(failure.value.log) in str(failure.value)
    assert not services.box.read("processes")
    assert not services.box.is_taken()


def test_a_folder_closed_to_others_is_no_obstacle(make, tmp_path):
    """Where root keeps the box behind a closed door the data lies elsewhere, is told, survives, and goes with reset.

    The database itself never runs as root.
    """
    tmp_path.chmod(0o700)
    services = make(kind=DatabaseAlone)
    services.start()
    assert psutil.Process(services.database.pid).uids().effective != 0
    told = Path(services.box.read("box")["database_folder"])

    assert (told.is_relative_to(tmp_path)) == (os.geteuid() != 0)
    services.stop()
    assert told.exists()
    control.reset(services.box, Silence())
    assert not told.exists()


async def test_a_certificate_for_databases_elsewhere_is_not_asked_for(make, tmp_path_factory, monkeypatch):
    """It lies where clients of PostgreSQL look at home, and may be broken, or locked with a word that nobody types."""
    home = tmp_path_factory.mktemp("home")
    (home / ".postgresql").mkdir()
    for name in ("postgresql.crt", "postgresql.key"):
        (home / ".postgresql" / name).write_text("broken")
    monkeypatch.setenv("HOME", str(home))
    services = make(kind=DatabaseAlone)
    services.start()

    async with connection({"DATABASE_URL": environment.database_url(services.ports)}) as connected:
        assert await connected.fetchval("select 1") == 1


def test_a_box_that_is_ended_while_its_broker_writes_leaves_nothing_running(services, archive):
    """The half of an archive is none: the next broker would begin anew."""
    until_blocking(archive.exists, "the classes are written down once")
    archive.unlink()
    class_archive.make(services.broker, archive)
    java = psutil.Process(services.broker.pid)
    [child] = until_blocking(java.children, "Java writes its classes down")
    services.stop()

    def gone():
        return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

    until_blocking(gone, "that is ended, too, long before it is done", deadline_seconds=2)
    assert not archive.exists()
    assert not remembered(services.box)
