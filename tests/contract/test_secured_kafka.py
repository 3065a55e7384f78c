"""A cluster that speaks TLS alone, asks who it is, and allows only what the map of topics asks for; all by settings.

One secured broker serves every test of this file.
"""

import asyncio
import json

import psutil
import pytest
import trustme
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError
from aiokafka.protocol.commit import OffsetFetchRequest
from typer.testing import CliRunner

from deploy.dev.services import kafka_settings, keys
from deploy.ops.cli import app
from shared import errors, topics
from shared.kafka import acls, connection, producer
from shared.kafka.acls import Acl
from shared.kafka.records import Record
from shared.kafka.rewinding import RewindingConsumer
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.members import BrokerAlone, administration, everything, make_topics, process
from tests.support.waiting import until

PROCESSES = ("ingress", "payments", "bookings", "email")
READ = [(process, topic, group) for topic in topics.ALL for process, group in zip(topic.consumers, topic.groups, strict=True)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """The broker, with a record in every topic, and the rules that `cb-ops acls apply` made."""
    box = BrokerAlone(tmp_path_factory.mktemp("secured"), durable=False, secure=True)
    variables = box.start()
    asyncio.run(furnish(kafka_settings.of(variables)))
    applied = CliRunner().invoke(app, ["acls", "apply"], env=variables)
    assert (applied.exit_code, applied.stdout.count("created ")) == (0, len(acls.wanted("")))
    yield box
    box.stop()


@pytest.fixture
def as_user(secured):
    """Settings of a user of the secured cluster."""

    def of(user, **changes):
        return kafka_settings.of(secured.environment() | keys.variables(secured.box, user) | changes)

    return of


@pytest.fixture
def ops(secured):
    """Run `cb-ops` as its own user, or as these variables say."""

    async def run(*arguments, **changes):
        environment = secured.environment() | changes
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)

    return run


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256"])
async def test_a_record_goes_in_and_comes_out_over_tls(as_user, mechanism):
    """By the door's own producer, under the door's own name."""
    value = mechanism.encode()
    async with producer.opened(as_user("ingress", KAFKA_SASL_MECHANISM=mechanism), client_id="tests") as door:
        await door.publish([Record("stripe.events", b"evt_1", value, ())])

    found = await everything(as_user("cb-ops", KAFKA_SASL_MECHANISM=mechanism), topics.STRIPE_EVENTS)
    assert value in [record.value for record in found]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"KAFKA_SASL_PASSWORD": "guessed"}, "cb-ops is not let in: wrong user or password (SCRAM-SHA-512)"),
        ({"KAFKA_SASL_USERNAME": "nobody"}, "nobody is not let in: wrong user or password (SCRAM-SHA-512)"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "it does not let anybody in by PLAIN"),
        (
            {
                "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
                "KAFKA_SASL_USERNAME": "",
                "KAFKA_SASL_PASSWORD": "",
                "KAFKA_SSL_CA_FILE": "",
            },
            "it hung up: does it speak PLAINTEXT?",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD": ""},
            "it hung up: does it speak SSL?",
        ),
    ],
)
async def test_who_is_not_let_in_hears_why_in_one_line(ops, secured, changes, reason):
    """A wrong password, a user that is not there, another way in, no encryption; and no password is told."""
    result = await ops("topics", "apply", **changes)

    assert (result.exit_code, result.stderr) == (1, f"Kafka at 127.0.0.1:{secured.ports['broker']}: {reason}\n")
    assert not any(password in result.output for password in ("guessed", *keys.passwords(secured.box).values()))


@pytest.mark.parametrize("changes", [{"KAFKA_SASL_PASSWORD": "guessed"}, {"KAFKA_SASL_MECHANISM": "PLAIN"}, {}])
async def test_who_asked_why_has_hung_up_by_then(as_user, secured, changes):
    """Whoever asked may end with its loop at once, and a connection that is still closing would be left to the collector."""
    told = await connection.refusal(as_user("cb-ops", **changes))

    assert bool(changes) == (told != connection.NO_ANSWER)
    held = psutil.Process().net_connections("tcp")
    assert [one for one in held if one.raddr and one.raddr.port == secured.ports["broker"]] == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(ops, secured, tmp_path):
    """Somebody else's authority, or the system's: whoever answers in the brokers' place hears no password."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    where = f"Kafka at 127.0.0.1:{secured.ports['broker']}: its certificate is not trusted:"

    for authority in (str(tmp_path / "other.pem"), ""):
        result = await ops("topics", "apply", KAFKA_SSL_CA_FILE=authority)
        assert result.exit_code == 1
        assert result.stderr.startswith(where)


async def test_a_process_that_is_not_let_in_waits_and_says_why(as_user, monkeypatch):
    """The same reason in its log, once, and it goes on as soon as the password is right."""
    said = []

    class Log:
        def warning(self, event, **fields):
            said.append((event, fields["reason"]))

    monkeypatch.setattr(connection, "log", Log())
    stopping = asyncio.Event()
    client = AIOKafkaProducer(**connection.for_aiokafka(as_user("payments", KAFKA_SASL_PASSWORD="guessed")))
    waiting = asyncio.create_task(
        connection.until_answers(as_user("payments", KAFKA_SASL_PASSWORD="guessed"), client.start, stopping=stopping)
    )
    await until(lambda: said, "it says why")
    stopping.set()
    with pytest.raises(errors.Stopping):
        await waiting
    await client.stop()

    assert said == [("kafka.away", "payments is not let in: wrong user or password (SCRAM-SHA-512)")]


async def test_a_coordinator_says_above_the_partitions_why_it_tells_no_offsets(as_user):
    """Of the partitions it then names none, as though nothing had ever been committed: whoever asked hears why."""
    asked = OffsetFetchRequest("payments", [("stripe.events", [0])])
    async with RewindingConsumer(**connection.for_aiokafka(as_user("bookings")), group_id="bookings") as consumer:
        [broker] = consumer._client.cluster.brokers()
        with pytest.raises(GroupAuthorizationFailedError):
            await consumer._client.send(broker.nodeId, asked)


@pytest.mark.parametrize("user", PROCESSES)
async def test_a_process_writes_its_own_topics_and_no_other(as_user, user):
    """Every topic of the map is tried."""
    written = set()
    async with AIOKafkaProducer(**connection.for_aiokafka(as_user(user)), enable_idempotence=False) as client:
        for topic in topics.ALL:
            try:
                await client.send_and_wait(topic.name, b"{}", partition=0)
                written.add(topic)
            except TopicAuthorizationFailedError:
                continue

    assert written == {topic for topic in topics.ALL if user in topic.producers}


@pytest.mark.parametrize("user", PROCESSES)
async def test_a_process_reads_its_own_topics_and_no_other(as_user, user):
    """Every topic of the map is tried, without a group: what may be read is a matter of the topic."""
    read = set()
    async with AIOKafkaConsumer(**connection.for_aiokafka(as_user(user)), auto_offset_reset="earliest") as client:
        for topic in topics.ALL:
            place = TopicPartition(topic.name, 0)
            try:
                await client._client._wait_on_metadata(topic.name)
                client.assign([place])
                client.seek(place, 0)
                await asyncio.wait_for(client.getone(place), 10)
                read.add(topic)
            except TopicAuthorizationFailedError:
                continue

    assert read == {topic for topic in topics.ALL if user in topic.consumers}


@pytest.mark.parametrize(("user", "topic", "group"), READ)
async def test_a_process_joins_the_groups_of_the_map_and_commits(as_user, user, topic, group):
    """What the map says is enough for a member of a group."""
    arguments = connection.for_aiokafka(as_user(user))
    async with AIOKafkaConsumer(topic.name, **arguments, group_id=group, auto_offset_reset="earliest") as member:
        await asyncio.wait_for(member.getone(), 20)
        await member.commit()


async def test_a_process_joins_no_other_group(as_user):
    """Who joined another's group would take its partitions away."""
    arguments = connection.for_aiokafka(as_user("ingress"))
    client = AIOKafkaConsumer("stripe.events", **arguments, group_id="payments")
    with pytest.raises(GroupAuthorizationFailedError):
        await asyncio.wait_for(client.start(), 20)
    await client.stop()


async def test_a_process_creates_and_deletes_nothing(as_user):
    """Topics are operators' work, and so are rules."""
    with pytest.raises(ClusterAuthorizationFailedError):
        await acls.plan(as_user("payments"))
    async with administration(as_user("payments")) as admin:
        answer = await admin.delete_topics(["stripe.events"])
        assert [code for _, code in answer.topic_error_codes] == [TopicAuthorizationFailedError.errno]


async def test_the_payments_consumer_does_its_whole_work_as_its_own_user(secured, as_user, engine, database, tmp_path):
    """The process itself: an event of Stripe's becomes one of ours, what is none a dead letter, and the group moves on."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    told = keys.variables(secured.box, "payments")
    async with process("payments", tmp_path, database=database, kafka=as_user("payments"), **told) as payments:
        await payments.start()
        async with producer.opened(as_user("ingress"), client_id="tests") as door:
            event = sale.succeeded()
            await door.publish([Record("stripe.events", event["id"].encode(), bytes_of(event), ())])
            await door.publish([Record("stripe.events", b"evt_broken", b"no json", ())])

        async def told_and_refused():
            said = await everything(as_user("cb-ops"), topics.PAYMENTS_EVENTS)
            refused = await everything(as_user("cb-ops"), topics.STRIPE_EVENTS_DLT)
            return sale.payment_id.encode() in [r.key for r in said] and b"evt_broken" in [r.key for r in refused]

        await until(told_and_refused, "both are where they belong", deadline_seconds=60)


async def test_rules_are_planned_created_once_and_never_taken_away(ops, as_user):
    """Under a prefix: all is missing, then all is there; what goes beyond the map is told, and stays."""
    stage = {"TOPIC_PREFIX": "stage."}
    planned = json.loads((await ops("acls", "plan", "--json", **stage)).stdout)
    made = json.loads((await ops("acls", "apply", "--json", **stage)).stdout)
    extra = Acl("User:stage.payments", "write", "topic", "stage.stripe.events")
    async with acls._connected(as_user("cb-ops")) as client:
        await acls._create(client, [extra])
        await until(lambda: shows(client, extra), "the broker shows it")

    again = await ops("acls", "apply", **stage)

    assert len(planned["missing"]) == len(acls.wanted("stage."))
    assert planned == made
    assert "created" not in again.stdout
    assert f"BEYOND     {extra}\n" in again.stdout
    assert again.stdout.endswith(
        "1 are beyond what our processes need and stay: taking rights away is an operator's decision\n"
    )


async def test_a_cluster_without_an_authorizer_is_told(kafka):
    """Rules that nobody goes by would be worse than none."""
    servers = ",".join(kafka.kafka_bootstrap_servers)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["acls", "plan"], env={"KAFKA_BOOTSTRAP_SERVERS": servers})

    assert result.exit_code == 1
    assert result.stderr.endswith("no authorizer is configured: whoever reaches the brokers may do everything\n")


async def furnish(kafka):
    await make_topics(kafka, *topics.ALL)
    async with AIOKafkaProducer(**connection.for_aiokafka(kafka), enable_idempotence=False) as client:
        for topic in topics.ALL:
            await client.send_and_wait(topic.name, b"{}", partition=0)


async def shows(client, acl):
    return acl in await acls._present(client)
