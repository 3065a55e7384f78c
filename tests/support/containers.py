"""PostgreSQL and Kafka of the official images, by testcontainers, where tests otherwise have the box's: `make test-containers`.

Enters: a Docker engine. Leaves: the environment that leads to both, and a name for the report. Nothing is kept, so the
database does not sync.
"""

import io
import tarfile

from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

POSTGRES_IMAGE = "postgres:18"
KAFKA_IMAGE = "apache/kafka:4.4.0"
KAFKA_PORT = 9092
READY_SECONDS_MAX = 60
NAME = f"{POSTGRES_IMAGE} and {KAFKA_IMAGE}, by testcontainers"
# As in the box: every test has a database, and every process in it a pool.
POSTGRES = "postgres -c max_connections=300 -c fsync=off -c full_page_writes=off"
# Any of these replaces the image's own configuration, so all of it stands here.
KAFKA = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": f"PLAINTEXT://:{KAFKA_PORT},CONTROLLER://:9093,BROKER://:9094",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BROKER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "BROKER",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
}
# The port by which it is found is known only once it runs: it waits for a file that tells it.
TOLD = "/tmp/start.sh"
WAITING = f"until [ -s {TOLD} ]; do sleep 0.1; done; exec bash {TOLD}"


class Containers:
    """Both, up; they look like the box's services to tests."""

    def __init__(self):
        self._postgres = PostgresContainer(POSTGRES_IMAGE, username="cb", dbname="culturebridge", driver=None)
        self._postgres.with_command(POSTGRES)
        self._kafka = DockerContainer(KAFKA_IMAGE).with_exposed_ports(KAFKA_PORT).with_command(["bash", "-c", WAITING])
        for name, value in KAFKA.items():
            self._kafka.with_env(name, value)

    def start(self):
        """Bring both up; returns the environment that leads to them."""
        try:
            self._kafka.start()
            servers = f"{self._kafka.get_container_host_ip()}:{self._kafka.get_exposed_port(KAFKA_PORT)}"
            self._tell_kafka(servers)
            self._postgres.start()
            LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(READY_SECONDS_MAX).wait_until_ready(self._kafka)
        except BaseException:
            self.stop()
            raise
        return {"DATABASE_URL": self._postgres.get_connection_url(), "KAFKA_BOOTSTRAP_SERVERS": servers}

    def stop(self):
        """End both with all that they hold."""
        self._postgres.stop()
        self._kafka.stop()

    def _tell_kafka(self, servers):
        listeners = f"PLAINTEXT://{servers},BROKER://localhost:9094"
        script = f"export KAFKA_ADVERTISED_LISTENERS={listeners}\nexec /etc/kafka/docker/run\n".encode()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(TOLD.rpartition("/")[2])
            entry.size = len(script)
            archive.addfile(entry, io.BytesIO(script))
        self._kafka.get_wrapped_container().put_archive(TOLD.rpartition("/")[0], packed.getvalue())
