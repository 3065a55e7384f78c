"""deploy/cluster/compose.yml and its balancer: what only a cluster has, held to the code that it serves. It needs no engine."""

import re

import pytest

from deploy.dev.box.pipeline import PROCESSES
from deploy.dev.services import broker
from ingress import connections, webhook
from ingress import serving as door
from shared import settings
from tests.architecture import composition
from tests.architecture.source import ROOT
from tests.architecture.test_images import SETTINGS
from tests.chaos import cluster, cluster_cases
from tests.chaos.cluster_ground import COMPOSITION

SERVICES = composition.services(composition.CLUSTER)
BROKERS = {name: service for name, service in SERVICES.items() if name.startswith("kafka-")}
SOCKETS = [f"{name}:9092" for name in BROKERS]
BALANCER = (ROOT / "deploy/cluster/balancer/haproxy.cfg").read_text()
ANSWER_SECONDS_MAX = 5
UNITS = {"ms": 0.001, "s": 1.0}


def section(name):
    """The lines of one section of the balancer's configuration, without comments, each as its words."""
    [found] = re.findall(rf"^{name}\n((?:[ \t].*\n|#.*\n|\n)+)", BALANCER, re.MULTILINE)
    return [words for line in found.splitlines() if (words := line.partition(" #")[0].split()) and words[0] != "#"]


def seconds(name, *words):
    """A time of a section, in seconds."""
    [time] = [line[len(words)] for line in section(name) if line[: len(words)] == [*words]]
    number, unit = re.fullmatch(r"(\d+)(ms|s)", time).groups()
    return int(number) * UNITS[unit]


def number(name, *words):
    """A number of a section."""
    [found] = [line[len(words)] for line in section(name) if line[: len(words)] == [*words]]
    return int(found)


def test_there_are_three_brokers_as_production_has_them():
    """The figures of `cb-dev up --brokers 3`, each broker with a number, a volume and an address of its own."""
    told = [service["environment"] for service in BROKERS.values()]

    assert len(BROKERS) == broker.CLUSTER["replicas"]
    assert len({one["KAFKA_NODE_ID"] for one in told}) == len(BROKERS)
    assert len({volume for service in BROKERS.values() for volume in service["volumes"]}) == len(BROKERS)
    assert len({port for service in BROKERS.values() for port in service["ports"]}) == len(BROKERS)
    for name, one in zip(BROKERS, told, strict=True):
        voters = one["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
        assert set(voters) == {f"{other['KAFKA_NODE_ID']}@{host}:9093" for host, other in zip(BROKERS, told, strict=True)}
        assert f"PLAINTEXT://{name}:9092," in one["KAFKA_ADVERTISED_LISTENERS"]
        published = BROKERS[name]["ports"][0].removeprefix("127.0.0.1:").removesuffix(":29092")
        assert one["KAFKA_ADVERTISED_LISTENERS"].endswith(f"HOST://127.0.0.1:{published}")
        assert one["KAFKA_BROKER_SESSION_TIMEOUT_MS"] == broker.CLUSTER["session_ms"]
        assert one["KAFKA_BROKER_HEARTBEAT_INTERVAL_MS"] == broker.CLUSTER["heartbeat_ms"]
        assert one["KAFKA_CONTROLLER_QUORUM_FETCH_TIMEOUT_MS"] == broker.CLUSTER["quorum_fetch_ms"]
        assert one["KAFKA_CONTROLLER_QUORUM_ELECTION_TIMEOUT_MS"] == broker.CLUSTER["quorum_election_ms"]
        for replicated in ("DEFAULT", "OFFSETS_TOPIC", "TRANSACTION_STATE_LOG"):
            assert one[f"KAFKA_{replicated}_REPLICATION_FACTOR"] == broker.CLUSTER["replicas"]
        for in_sync in ("MIN_INSYNC_REPLICAS", "TRANSACTION_STATE_LOG_MIN_ISR"):
            assert one[f"KAFKA_{in_sync}"] == broker.CLUSTER["in_sync"]


def test_a_webhook_outlasts_a_broker_that_was_the_controller_too():
    """Another controller is elected before the dead one's session begins; both together end before the door gives up."""
    for service in BROKERS.values():
        told = service["environment"]
        waited_ms = told["KAFKA_CONTROLLER_QUORUM_FETCH_TIMEOUT_MS"] + told["KAFKA_BROKER_SESSION_TIMEOUT_MS"]
        assert waited_ms / 1000 < webhook.PUBLISH_SECONDS_MAX


def test_topics_are_made_when_all_brokers_are_there():
    """They would keep the replicas of those that came first."""
    assert SERVICES["topics"]["command"] == ["topics", "apply", "--brokers", str(len(BROKERS))]


@pytest.mark.parametrize("process", PROCESSES)
def test_there_are_two_of_each_process(process):
    """A consumer with a name of its own, by which it takes its partitions back; a door behind the balancer alone."""
    pair = {name: SERVICES[name] for name in (f"{process}-1", f"{process}-2")}

    assert all(service["environment"]["KAFKA_BOOTSTRAP_SERVERS"].split(",") == SOCKETS for service in pair.values())
    assert not any("ports" in service for service in pair.values())
    if process != "ingress":
        assert [service["environment"]["KAFKA_INSTANCE_ID"] for service in pair.values()] == list(pair)


def test_a_door_grants_the_balancer_all_of_its_places():
    """To the door it is one address; it counts each stranger's connections itself, as many as the door would grant."""
    most = settings.Http.model_fields["ingress_connections_max"].default
    each = settings.Http.model_fields["ingress_connections_per_address_max"].default

    for name in ("ingress-1", "ingress-2"):
        told = SERVICES[name]["environment"]
        assert told["INGRESS_CONNECTIONS_PER_ADDRESS_MAX"] == f"${{INGRESS_CONNECTIONS_MAX:-{most}}}"
    assert number("frontend door", "maxconn") == most
    assert ["tcp-request", "connection", "reject", "if", "{", "sc0_conn_cur", "gt", str(each), "}"] in section("frontend door")


def test_the_balancer_knows_both_doors():
    """By their names in the file, at their ports; health is asked where the door tells it."""
    health = SETTINGS["ingress"].model_fields["health_port"].default
    port = settings.Http.model_fields["ingress_port"].default

    for backend in ("backend webhooks", "backend others"):
        doors = [line[1:] for line in section(backend) if line[0] == "server"]
        assert doors == [[name, f"{name}:{port}"] for name in ("ingress-1", "ingress-2")]
    [check] = [line for line in section("defaults") if line[0] == "default-server"]
    assert check[1:4] == ["check", "port", str(health)]
    assert SERVICES["balancer"]["networks"]["default"]["aliases"] == ["ingress"]


def test_the_largest_webhook_can_be_sent_again():
    """All of it has to be in one buffer, before a door is chosen."""
    room = number("global", "tune.bufsize")

    assert room >= webhook.BODY_BYTES_MAX + connections.HEAD_BYTES_MAX
    assert ["option", "http-buffer-request"] in section("backend webhooks")
    [retried] = [line[1:] for line in section("backend webhooks") if line[0] == "retry-on"]
    assert {"conn-failure", "empty-response"} <= set(retried)


def test_a_checkout_is_not_sent_again_once_a_door_had_it():
    """Its second answer would be another: the payment exists already."""
    assert ["http-request", "disable-l7-retry", "unless", "METH_GET"] in section("backend others")


def test_no_webhook_is_answered_late():
    """The door's own answer comes first; a connection that a door is about to close is not used."""
    assert webhook.PUBLISH_SECONDS_MAX < seconds("backend webhooks", "timeout", "server") < ANSWER_SECONDS_MAX
    assert seconds("defaults", "timeout", "connect") <= 0.5
    assert seconds("defaults", "timeout", "http-keep-alive") < door.KEEPALIVE_SECONDS


def test_the_balancer_has_time_to_end():
    """Docker kills after the grace period."""
    assert seconds("global", "hard-stop-after") < float(SERVICES["balancer"]["stop_grace_period"].removesuffix("s"))


def test_the_chaos_run_has_ports_of_its_own_and_meets_every_process():
    """Its stack never meets another one's; who is added to the file is restarted, too."""
    ports = {port for service in SERVICES.values() for port in service.get("ports", ())}
    published = {re.search(r"PUBLISHED_(\w+)_PORT", port)[1] for port in ports}
    processes = {name for name in SERVICES if re.fullmatch(r"\w+-\d", name)}

    assert set(COMPOSITION.published) == published
    assert set(cluster_cases.ROLLED) == processes


def test_the_chaos_run_writes_its_part_of_the_page():
    """In place of the last one, and nothing else."""
    written = cluster.page(cluster.PAGE.read_text(), [("killed", "0 lost", "0 lost", {})], "On a machine.")
    again = cluster.page(written, [("rolled", "all 200", "all 200", {})], "On another.")

    assert "\n| killed | 0 lost | 0 lost |\n\nOn a machine.\n<!-- /chaos-cluster -->" in written
    assert again.partition(cluster.HEAD)[0] == written.partition(cluster.HEAD)[0]
    assert "killed |" not in again.partition(cluster.HEAD)[2]
    assert again.partition(cluster.END)[2] == written.partition(cluster.END)[2]
