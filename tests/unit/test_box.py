"""The box's pure parts: its list of jars, ports, notes, waiting times, and what it prints for shells."""

import contextlib
import hashlib
import io
import os
import re
import subprocess
from collections import defaultdict

import pytest
from rich.console import Console

from deploy.dev.box import pipeline, stand_ins
from deploy.dev.demo import demo
from deploy.dev.errors import BoxError, PieceFailed
from deploy.dev.jars import cache
from deploy.dev.processes import ports, process, supervisor
from deploy.dev.services import broker, class_archive, database, environment, kafka_settings, keys
from deploy.dev.state import Box
from deploy.dev.terminal import Silence, Voice


def test_the_list_pins_every_jar_once():
    """What is not in the list is never run; one line is one file, with its SHA-256 and size."""
    listed = cache.listed()

    assert len(listed) == len({jar.filename for jar in listed})
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) and jar.size_bytes > 0 for jar in listed)


def test_kafka_comes_with_what_it_needs_to_log():
    """Without an slf4j binding Kafka dies in silence."""
    coordinates = {f"{jar.group}:{jar.artifact}" for jar in cache.listed()}

    assert {"org.apache.kafka:kafka_2.13", "org.slf4j:slf4j-simple"} <= coordinates


def test_a_line_of_the_list_reads_back_as_it_was_written():
    """The list is written and read by the same type."""
    for jar in cache.listed():
        assert cache.Jar.parse(str(jar)) == jar


@pytest.mark.parametrize("line", ["", "abc org:art:1", "abc org:art 12", "abc org:art:1 many"])
def test_a_line_that_is_none_is_refused(line):
    """A damaged list stops the box instead of running less than it says."""
    with pytest.raises(ValueError, match=r"."):
        cache.Jar.parse(line)


def test_a_changed_byte_is_seen(tmp_path):
    """A jar is what its SHA-256 says, or it is nothing."""
    body = b"bytes of a jar"
    jar = cache.Jar(hashlib.sha256(body).hexdigest(), "org", "art", "1", len(body))
    path = tmp_path / jar.filename

    assert not cache.is_intact(path, jar)
    path.write_bytes(body)
    assert cache.is_intact(path, jar)
    path.write_bytes(body + b"!")
    assert not cache.is_intact(path, jar)


def test_one_archive_of_classes_serves_every_clone(tmp_path, monkeypatch):
    """Java asks for the same files, not for the same folder; each archive that is made for nothing is 60 MB of the cache."""
    java = tmp_path / "one" / "modules"
    java.parent.mkdir()
    java.write_bytes(b"classes")
    linked = tmp_path / "modules"
    linked.hardlink_to(java)
    jar = tmp_path / "kafka.jar"
    jar.write_bytes(b"more")

    found = []
    for modules in (java, linked):
        monkeypatch.setattr(class_archive, "MODULES", modules)
        found.append(class_archive.path([jar]))
    jar.write_bytes(b"others")

    assert len({*found}) == 1
    assert class_archive.path([jar]) not in found


NODES = [broker.Node(number, 9000 + number, 9100 + number) for number in (1, 2, 3)]


def properties(box, nodes, number=1):
    told = broker.properties(box, "data", nodes[number - 1], nodes)
    return dict(line.split("=", 1) for line in told.splitlines() if not line.startswith("#"))


def test_a_box_is_not_what_the_shell_or_a_file_says(tmp_path, monkeypatch):
    """Who fills in a .env for containers, or works for staging in this shell, has a box all the same."""
    (tmp_path / ".env").write_text("KAFKA_SECURITY_PROTOCOL=SASL_SSL\nKAFKA_SASL_USERNAME=ops\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOPIC_PREFIX", "stage.")
    kafka = kafka_settings.of({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092"})

    assert (kafka.topic_prefix, kafka.kafka_security_protocol, kafka.kafka_sasl_username) == ("", "PLAINTEXT", None)
    assert kafka.kafka_bootstrap_servers == ("127.0.0.1:9092",)


def test_no_folder_is_named_to_kafka(tmp_path):
    """It would take a comma in it for the beginning of another, a backslash for a sign of its own, and the rest for Latin-1."""
    box = Box(tmp_path / r"José, a\b")
    keys.make(box)
    told = properties(box, NODES)
    works_in = box.home / "broker"
    works_in.mkdir()

    assert not [value for value in told.values() if box.home.name in value]
    assert (works_in / told["ssl.keystore.location"]).samefile(keys.broker(box))
    assert (works_in / told["ssl.truststore.location"]).samefile(keys.authority(box))


def test_a_folder_whose_name_is_no_text_is_told_in_one_line(tmp_path):
    """Its bytes are of another encoding than the shell's."""
    with pytest.raises(BoxError, match="not text here"):
        broker.prepare(Box(tmp_path / "Jos\udce9"), NODES[:1], [])


def test_one_broker_is_a_cluster_by_itself(tmp_path):
    """One replica, and a session so short that a killed broker is back soon."""
    alone = properties(Box(tmp_path), NODES[:1])

    assert alone["controller.quorum.voters"] == "1@127.0.0.1:9101"
    assert (alone["broker.session.timeout.ms"], alone["broker.heartbeat.interval.ms"]) == ("1000", "200")
    assert {alone[name] for name in alone if name.endswith(("replication.factor", "min.isr", "insync.replicas"))} == {"1"}


def test_three_brokers_are_a_production_cluster(tmp_path):
    """Three replicas, two in sync, the sessions that README asks for, and all three vote."""
    told = [properties(Box(tmp_path), NODES, number) for number in (1, 2, 3)]
    [second] = [one for one in told if one["node.id"] == "2"]

    assert {one["controller.quorum.voters"] for one in told} == {"1@127.0.0.1:9101,2@127.0.0.1:9102,3@127.0.0.1:9103"}
    assert second["listeners"] == "PLAINTEXT://127.0.0.1:9002,CONTROLLER://127.0.0.1:9102"
    for one in told:
        assert (one["broker.session.timeout.ms"], one["broker.heartbeat.interval.ms"]) == ("3000", "500")
        assert one["controller.quorum.fetch.timeout.ms"] == "1000"
        assert {one[name] for name in one if name.endswith("replication.factor")} == {"3"}
        assert (one["min.insync.replicas"], one["transaction.state.log.min.isr"]) == ("2", "2")


def test_a_box_keeps_the_number_of_brokers_that_it_was_made_with(tmp_path):
    """Another number would find topics that it cannot serve: it is refused, and the cure is told."""
    box = Box(tmp_path)
    assert (broker.count(box, None), broker.count(box, 3)) == (1, 3)

    box.write("cluster", {"id": "x", "brokers": 3})
    assert (broker.count(box, None), broker.count(box, 3)) == (3, 3)
    with pytest.raises(BoxError, match="cb-dev reset"):
        broker.count(box, 1)

    broker.remove(box)
    (tmp_path / "broker" / "data").mkdir(parents=True)
    with pytest.raises(BoxError, match="cb-dev reset"):
        broker.count(box, 3)


def test_a_secured_box_speaks_tls_alone_and_knows_its_users(tmp_path):
    """Clients log in over TLS, controllers show a certificate; the brokers' own user and the operators stand above ACLs."""
    box = Box(tmp_path)
    keys.make(box)
    told = properties(box, NODES)

    assert told["listeners"] == "SASL_SSL://127.0.0.1:9001,CONTROLLER://127.0.0.1:9101"
    assert told["listener.security.protocol.map"] == "CONTROLLER:SSL,SASL_SSL:SASL_SSL"
    assert told["listener.name.controller.ssl.client.auth"] == "required"
    assert told["super.users"] == "User:broker;User:cb-ops"
    assert keys.broker(box).stat().st_mode & 0o077 == 0


def test_every_process_of_a_secured_box_logs_in_as_itself(tmp_path):
    """The operator's password is for operators: the pipeline has users who may do less."""
    box, open_box = Box(tmp_path / "secured"), Box(tmp_path / "open")
    keys.make(box)
    chosen = dict.fromkeys((*pipeline.PORTS, "broker"), 1)

    variables = environment.of_cluster(box, chosen, brokers=1)
    pieces = pipeline.pieces(box, variables, chosen)

    assert variables["KAFKA_SASL_USERNAME"] == "cb-ops"
    assert [piece.environment["KAFKA_SASL_USERNAME"] for piece in pieces] == [piece.name for piece in pieces]
    assert len({piece.environment["KAFKA_SASL_PASSWORD"] for piece in pieces} | {variables["KAFKA_SASL_PASSWORD"]}) == 5
    assert environment.of_cluster(open_box, chosen, brokers=1) == {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


def test_a_box_is_heard_on_this_machine_alone(tmp_path):
    """Neither its door nor what its processes tell of themselves is a neighbour's business."""
    box, chosen = Box(tmp_path), defaultdict(int)

    made = pipeline.pieces(box, environment.of_whole_box(box, chosen, brokers=1), chosen)

    heard_on = {piece.environment.get(name) for piece in made for name in ("INGRESS_HOST", "HEALTH_HOST")}
    assert heard_on == {ports.LOOPBACK}


def test_a_box_keeps_the_lock_that_it_was_made_with(tmp_path):
    """A cluster does not learn its users later: asked for what it lacks it is refused, and the cure is told."""
    box = Box(tmp_path)
    assert (broker.is_secured(box, asked=False), broker.is_secured(box, asked=True)) == (False, True)

    (tmp_path / "broker" / "data").mkdir(parents=True)
    with pytest.raises(BoxError, match="cb-dev reset"):
        broker.is_secured(box, asked=True)

    broker.remove(box)
    keys.make(box)
    before = keys.passwords(box)
    keys.make(box)
    assert (broker.is_secured(box, asked=False), keys.passwords(box)) == (True, before)
    broker.remove(box)
    assert not broker.is_secured(box, asked=False)


def test_the_brokers_of_a_box_are_all_told():
    """Whoever joins finds the cluster while one of it is away."""
    chosen = {"broker": 1, "broker-2": 2, "broker-3": 3}

    assert environment.bootstrap_servers(chosen, brokers=3) == "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"
    assert environment.bootstrap_servers(chosen, brokers=1) == "127.0.0.1:1"


def test_a_step_that_fails_tells_what_it_said(tmp_path):
    """Of the user that has no name (a number in a container) initdb says so: nobody has to look for it in a log."""
    box = Box(tmp_path)
    box.make_logs()
    (box.logs / "database.log").write_text("of last time\n")
    with pytest.raises(PieceFailed) as failure:
        process.run_once(box, "database", ("sh", "-c", "echo 'initdb: error: could not look up user 7' >&2; exit 1"))

    assert "\n  | initdb: error: could not look up user 7\n" in str(failure.value)
    assert "last time" not in str(failure.value)


def test_a_step_that_cannot_be_started_is_told_as_one_that_fails(tmp_path):
    """Its program may not be run, or is not there."""
    box = Box(tmp_path)
    box.make_logs()

    with pytest.raises(PieceFailed, match="Permission denied"):
        process.run_once(box, "database", (str(tmp_path),))


def test_what_root_alone_may_reach_is_copied_for_the_database(tmp_path, monkeypatch):
    """PostgreSQL refuses to be root: from root's own home, or under a umask of 077, it gets programs that its user can run."""
    monkeypatch.setattr(database, "is_open_to_others", lambda _folder: False)
    program = database._binaries(tmp_path) / "initdb"

    subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL)
    assert program.is_relative_to(tmp_path) == (os.geteuid() == 0)
    assert program.stat().st_uid == (database.UNPRIVILEGED if os.geteuid() == 0 else os.geteuid())


@pytest.mark.parametrize(
    "asked", [lambda _box: cache.ensure(Silence(), []), lambda box: ports.Ports(box, usual=True).take("smtp")]
)
def test_a_cache_that_cannot_be_is_told_with_its_cure(monkeypatch, tmp_path, asked):
    """A home that is read-only, or nobody's, is common in containers."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with pytest.raises(BoxError, match="XDG_CACHE_HOME"):
        asked(Box(tmp_path / "box"))


def test_the_first_free_candidate_wins(monkeypatch):
    """The usual port when free, else the one of last time; never one that another piece of this box has."""
    monkeypatch.setattr(ports, "is_free", lambda port: port != 1000)

    assert ports.choose([1000, 2000], avoid=set()) == 2000
    assert ports.choose([1001, 2000], avoid=set()) == 1001
    assert ports.choose([1001, 2000], avoid={1001}) == 2000


def test_a_usual_port_is_reserved_from_the_choice_on(monkeypatch, tmp_path):
    """Two boxes that come up at once choose differently, although neither process listens yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ports, "is_free", lambda _port: True)
    one = ports.Ports(Box(tmp_path / "one"), usual=True)
    other = ports.Ports(Box(tmp_path / "other"), usual=True)

    assert one.take("ingress") == ports.USUAL["ingress"]
    assert one.take("ingress") == ports.USUAL["ingress"]
    assert other.take("ingress") != ports.USUAL["ingress"]
    one.release()
    assert other.take("ingress") == ports.USUAL["ingress"]
    other.release()


def test_crashes_in_a_row_wait_longer_up_to_a_limit():
    """A piece that cannot live is no busy loop, and one that can again is back within ten seconds."""
    waits = [supervisor.back_off_seconds(crashes) for crashes in range(1, 10)]

    assert waits[0] == 0.5
    assert waits == sorted(waits)
    assert waits[-1] == 10.0


class Mortal:
    """A process that dies on demand; only what the supervisor touches of a Running."""

    def __init__(self, tmp_path):
        self.piece = type("P", (), {"name": "mortal", "ready": staticmethod(lambda _said: True)})()
        self.log = tmp_path / "mortal.log"
        self.alive = True
        self.exit_status = -9
        self.births = 0

    def is_alive(self):
        return self.alive

    def spawn(self):
        self.births += 1
        self.alive = True

    def said(self):
        return ""


def test_a_crashed_piece_is_born_again_after_its_wait(tmp_path):
    """Not before the wait is over, and exactly once."""
    mortal = Mortal(tmp_path)
    watch = supervisor.Watch(mortal, born_at=0.0)

    mortal.alive = False
    watch.look(1.0, Silence())
    watch.look(1.4, Silence())
    assert mortal.births == 0
    watch.look(1.6, Silence())
    watch.look(1.8, Silence())
    assert mortal.births == 1
    assert watch.is_ready


def test_a_steady_piece_starts_counting_anew(tmp_path):
    """A crash after an hour is a first crash."""
    mortal = Mortal(tmp_path)
    watch = supervisor.Watch(mortal, born_at=0.0, crashes=6)

    mortal.alive = False
    watch.look(3600.0, Silence())

    assert watch.crashes == 1


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_demo_in_colours_that_nobody_watches_ends_with_its_story(tmp_path, monkeypatch, name):
    """Continuous integration asks for colours, and sends no Ctrl-C."""
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(demo.control, "joined_or_kept_up", lambda *_: contextlib.nullcontext(enter_result=True))
    monkeypatch.setattr(demo, "BoxTarget", lambda box: box)
    monkeypatch.setattr(demo.story, "tell", lambda *_, **_seconds: True)
    monkeypatch.setattr(demo, "_addresses", lambda _box: {"mailbox": "http://127.0.0.1"})
    monkeypatch.setattr(demo.control, "wait_for_ever", lambda: pytest.fail("it waits for a person"))

    assert demo.show(tmp_path, Voice(), patience_seconds=1)


@pytest.mark.parametrize(
    ("is_terminal", "name", "value"), [(False, "FORCE_COLOR", "1"), (False, "TTY_COMPATIBLE", "1"), (True, "TERM", "dumb")]
)
def test_a_download_is_told_in_lines_where_no_line_can_be_overwritten(monkeypatch, is_terminal, name, value):
    """In a log with colours a bar is rubbish; in an editor's shell it would be a minute of silence."""
    monkeypatch.setenv(name, value)
    said = io.StringIO()
    said.isatty = lambda: is_terminal
    with Voice(Console(file=said, highlight=False, soft_wrap=True)).progress("kafka.jar", 4_000_000) as advance:
        advance(2_000_000)

    assert [line.partition("kafka.jar: ")[2] for line in said.getvalue().splitlines()] == [
        "4.0 MB, once for all boxes of this user",
        "2.0 of 4.0 MB",
    ]


def test_any_shell_reads_back_what_env_prints():
    """Values with quotes, blanks and dollars reach the shell unharmed."""
    variables = {"ONE": "plain", "TWO": 'it\'s $HOME and `date`; "x"'}
    script = environment.exports(variables) + 'printf "%s\\n%s" "$ONE" "$TWO"'

    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

    assert told.split("\n") == list(variables.values())


def test_no_secret_stands_in_a_command(tmp_path):
    """`ps` shows commands to every user of the machine; the sandbox is told its secret where only its own user looks."""
    box = Box(tmp_path)
    secrets = box.secrets().values()
    pieces = stand_ins.pieces(box, defaultdict(int))

    assert not [piece.name for piece in pieces for word in piece.command if any(secret in word for secret in secrets)]
    assert box.secrets()["STRIPE_WEBHOOK_SECRET"] in {value for piece in pieces for value in piece.environment.values()}


def test_secrets_are_made_up_once_per_box(tmp_path):
    """They survive a restart, differ between boxes, and only their owner may read them."""
    one, other = Box(tmp_path / "one"), Box(tmp_path / "other")

    assert one.secrets() == Box(one.home).secrets()
    assert not set(one.secrets().values()) & set(other.secrets().values())
    assert (one.home / "secrets.json").stat().st_mode & 0o077 == 0
