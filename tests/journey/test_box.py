"""The box on bad days: crashes, taken ports, neighbours. Real processes throughout."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.dev import class_archive, control, database, ports, store
from deploy.dev.errors import AlreadyUp, PieceFailed
from deploy.dev.stack import Services
from deploy.dev.state import Box
from deploy.dev.voice import Silence
from deploy.dev.whole import WholeBox
from shared import settings
from tests.journey import demos
from tests.waiting import until_blocking

PATIENCE_SECONDS = 30
TOPIC = "kept"
CB_DEV = [sys.executable, "-m", "deploy.dev.cli"]
BACKGROUND = [sys.executable, "-m", "deploy.dev.background"]


@pytest.fixture
def make(tmp_path):
    """Make services in folders of this test's own; ended and removed afterwards."""
    made = []

    def one(name="box"):
        made.append(Services(tmp_path / name, durable=False))
        return made[-1]

    yield one
    for services in made:
        services.stop()
    for folder in tmp_path.iterdir():
        control.reset(Box(folder), Silence())


async def connect(env):
    return await asyncpg.connect(env["DATABASE_URL"].replace("+asyncpg", ""))


async def leave_something(env):
    """Put a row and a record into the box; returns what to look for."""
    mark = uuid.uuid4().hex
    connection = await connect(env)
    await connection.execute("create table kept (mark text)")
    await connection.execute("insert into kept values ($1)", mark)
    connection.terminate()
    servers = env["KAFKA_BOOTSTRAP_SERVERS"]
    async with admin(servers) as kafka:
        await kafka.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(TOPIC, mark.encode())
    return mark


async def found(env):
    """What `leave_something` left: the marks in the database and in Kafka."""
    connection = await connect(env)
    rows = [row["mark"] for row in await connection.fetch("select mark from kept")]
    await connection.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(TOPIC, 0)])
        record = await consumer.getone()
    return rows, record.value.decode()


@contextlib.asynccontextmanager
async def admin(servers):
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def spoil_the_database(box):
    """Leave a data folder that PostgreSQL refuses."""
    box.home.mkdir()
    data = database.folder(box) / "data"
    data.mkdir(parents=True)


async def test_kill_9_of_broker_and_database_loses_nothing(make):
    """Both come up again by themselves in the same folder, with every row and record."""
    services = make()
    mark = await leave_something(services.start())

    services.broker.kill()
    services.database.kill()
    services.stop()
    env = make().start()

    assert await found(env) == ([mark], mark)


async def test_a_single_piece_can_go_and_come_back_where_it_was(make):
    """A test of bad days takes away the broker or the database alone; addresses and data stay."""
    services = make()
    env = services.start()
    mark = await leave_something(env)

    services.broker.stop()
    services.database.kill()
    services.database.start()
    services.broker.start()

    assert await found(env) == ([mark], mark)


async def test_kill_9_of_cb_dev_needs_no_cleaning(make, tmp_path):
    """The next start ends what was left over, be it noted or born just before the kill, and finds the data."""
    box = Box(tmp_path / "box")
    with cb_dev_in_background(box) as supervising:
        mark = await leave_something(control.environment_of(box))
        noted = box.read("processes")
        left = [note["pid"] for note in noted.values()]
        supervising.kill()
        supervising.wait()
    box.write("processes", {"database": noted["database"]})

    assert all(psutil.pid_exists(pid) for pid in left)
    env = make().start()

    assert not any(psutil.pid_exists(pid) for pid in left)
    assert await found(env) == ([mark], mark)


def test_cb_dev_starts_again_what_crashes(tmp_path, make):
    """While cb-dev runs, a killed database or broker is back within seconds, and a line says so."""
    box = Box(tmp_path / "box")
    with cb_dev_in_background(box) as supervising:
        before = box.read("processes")
        for note in before.values():
            os.kill(note["pid"], signal.SIGKILL)

        until_blocking(lambda: (box.logs / "said").read_text().count("is ready again") == len(before), "both are ready again")
        said = (box.logs / "said").read_text()
        supervising.terminate()
        assert supervising.wait(10) == 0

    assert said.count("ended by signal 9; starting it again") == len(before)
    assert not [note for note in before.values() if psutil.pid_exists(note["pid"])]
    assert not box.is_taken()


def test_the_first_broker_makes_the_next_ones_start_faster(make, tmp_path_factory, monkeypatch):
    """It writes its classes down for them, once; a box that is ended meanwhile leaves nothing running."""
    archive = tmp_path_factory.mktemp("cache") / "kafka.jsa"
    monkeypatch.setattr(class_archive, "path", lambda _jars: archive)
    services = make()
    services.start()
    java = psutil.Process(services.broker.pid)
    [child] = until_blocking(java.children, "Java writes its classes down")
    services.stop()
    until_blocking(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "that is ended, too")
    assert not archive.exists()

    services.start()
    until_blocking(archive.exists, "the classes are written down")
    services.broker.kill()
    services.broker.start()

    assert str(archive) in {mapped.path for mapped in psutil.Process(services.broker.pid).memory_maps()}
    archive.unlink()


async def test_two_boxes_in_two_folders_do_not_meet(make):
    """Each has its own rows and topics, and the end of one is not felt by the other."""
    one, other = make("one"), make("other")
    one_env, other_env = one.start(), other.start()
    mark = await leave_something(one_env)

    connection = await connect(other_env)
    assert await connection.fetchval("select to_regclass('kept')") is None
    await connection.close()
    async with admin(other_env["KAFKA_BOOTSTRAP_SERVERS"]) as kafka:
        assert TOPIC not in await kafka.list_topics()
    other.stop()

    assert await found(one_env) == ([mark], mark)


async def test_a_taken_port_is_side_stepped(make):
    """Somebody sits on the ports of last time: the box takes others and says which."""
    services = make()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = {"database": first.getsockname()[1], "broker": second.getsockname()[1]}
        services.box.write("ports", taken)
        env = services.start()

    assert str(taken["database"]) not in env["DATABASE_URL"]
    assert str(taken["broker"]) not in env["KAFKA_BOOTSTRAP_SERVERS"]
    await leave_something(env)


async def test_a_port_taken_between_look_and_start_is_side_stepped(make, monkeypatch):
    """Our look says free, the start says taken: another port is tried."""
    services = make()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [first.getsockname()[1], second.getsockname()[1]]
        services.box.write("ports", dict(zip(("database", "broker"), taken, strict=True)))
        looks = dict.fromkeys(taken, 1)
        really = ports.is_free
        monkeypatch.setattr(ports, "is_free", lambda port: looks.pop(port, 0) == 1 or really(port))
        env = services.start()

    assert not looks
    await leave_something(env)


def test_a_box_has_one_holder(make):
    """A second start of the same folder is refused and disturbs nothing."""
    first = make()
    first.start()

    with pytest.raises(AlreadyUp):
        make().start()

    assert first.broker.is_alive()
    assert first.database.is_alive()


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
    services = make()
    services.start()
    assert psutil.Process(services.database.pid).uids().effective != 0
    told = Path(services.box.read("box")["database_folder"])

    assert (told.is_relative_to(tmp_path)) == (os.geteuid() != 0)
    services.stop()
    assert told.exists()
    control.reset(services.box, Silence())
    assert not told.exists()


async def test_the_whole_box_comes_up_and_finds_itself_again(tmp_path, make):
    """Every process is ready, the world answers, somebody may pay; after a restart all of it is still there."""
    make("whole")
    box = WholeBox(tmp_path / "whole", durable=False)
    bookings = []
    for _ in range(2):
        env = box.start()
        try:
            async with aiohttp.ClientSession() as http_client:
                for name in ("INGRESS", "PAYMENTS", "BOOKINGS", "EMAIL"):
                    async with http_client.get(f"{env[f'CB_DEV_{name}_HEALTH_URL']}/health/ready") as answer:
                        assert answer.status == 200
                async with http_client.get(f"{env['CB_DEV_MAILBOX_URL']}/api/letters") as answer:
                    assert answer.status == 200
                async with http_client.get(f"{env['CB_DEV_MAILBOX_URL']}/wording") as answer:
                    assert "Version 1 of the templates in this box" in await answer.text()
            bookings.append(await store.a_payable_booking(settings.Database(database_url=env["DATABASE_URL"])))
            processes = [psutil.Process(running.pid) for running in box.running.values()]
        finally:
            box.stop()
        assert len(processes) == 8
        assert not any(process.is_running() for process in processes)

    assert bookings[0] == bookings[1]


def test_the_commands_tell_one_story(tmp_path, make):
    """up leaves it running, env and status tell it, a second up joins, down ends it, status says so, reset forgets."""
    folder = str(tmp_path / "José's box [1]")

    def cb_dev(*arguments, expect=0):
        done = subprocess.run([*CB_DEV, *arguments, "--dir", folder], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "is not up" in cb_dev("env", expect=1)
    assert "stays up" in cb_dev("up", "--services-only", "--detach")
    variables = dict(line.removeprefix("export ").split("=", 1) for line in cb_dev("env").splitlines())
    assert variables["KAFKA_BOOTSTRAP_SERVERS"] in cb_dev("status")
    assert "joined" in cb_dev("up", "--services-only")
    assert "services only" in cb_dev("up", expect=1)
    down = cb_dev("down")
    assert "is down" in down
    assert "earlier run" not in down
    assert "is down" in cb_dev("status", expect=1)
    assert "was not up" in cb_dev("down")
    cb_dev("reset")
    assert not (Path(folder) / "secrets.json").exists()


def test_a_box_whose_folder_was_removed_can_be_ended(tmp_path):
    """Somebody tidied up while it was up: its keeper goes, too, and all that it had started."""
    folder = tmp_path / "box"
    command = [*CB_DEV, "up", "--services-only", "--detach", "--dir", str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120, check=True)
    began = demos.left_running(folder)
    shutil.rmtree(folder)
    control.down(Box(folder), Silence())

    assert len(began) > 2
    assert demos.left_running(folder) == []
    database.remove(Box(folder))


def test_a_detached_start_that_fails_says_why(tmp_path, make):
    """The reason reaches the terminal of who asked, not only a log."""
    box = make().box
    spoil_the_database(box)

    command = [*CB_DEV, "up", "--services-only", "--detach", "--dir", str(box.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "postgresql.conf" in done.stdout
    assert "database.log" in done.stdout


@contextlib.contextmanager
def cb_dev_in_background(box):
    """A supervising cb-dev with services only, up; killed at the end if it still lives."""
    box.logs.mkdir(parents=True, exist_ok=True)
    with (box.logs / "said").open("wb") as said:
        process = subprocess.Popen([*BACKGROUND, str(box.home), "--services-only"], stdout=said, stderr=said)
    try:
        until_blocking(lambda: box.read("box").get("ready") or process.poll() is not None, "cb-dev is up")
        yield process
    finally:
        process.kill()
        process.wait()
