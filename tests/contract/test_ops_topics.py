"""`cb-ops topics apply` against a real cluster: it creates, it compares, it never changes or deletes."""

import asyncio
import json

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from deploy.ops.cli import app
from shared import clock, topics
from shared.kafka import connection, provision
from tests.support.members import everything, put
from tests.support.waiting import until

KEPT = {"retention.ms", "segment.ms"}
OF_THE_TOPIC = 1  # whose a setting is, in Kafka's answer to DescribeConfigs (KIP-226)


@pytest.fixture
def apply(kafka):
    """Run `cb-ops topics apply` and return its result."""

    async def run(*arguments):
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.kafka_bootstrap_servers),
            "TOPIC_PREFIX": kafka.topic_prefix,
        }
        return await asyncio.to_thread(CliRunner().invoke, app, ["topics", "apply", *arguments], env=environment)

    return run


@pytest.fixture
async def admin(kafka):
    client = AIOKafkaAdminClient(**connection.for_aiokafka(kafka))
    await client.start()
    yield client
    await client.close()


async def until_shown(admin, *, shorter, wider):
    """The controller has taken both changes; the broker shows them a moment later."""

    async def shown():
        [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, shorter)])
        [topic] = await admin.describe_topics([wider])
        retention = {entry[0]: entry[1] for entry in answer.resources[0][4]}.get("retention.ms")
        return (retention, len(topic["partitions"])) == ("3600000", 5)

    await until(shown, "both changes are shown")


def names(kafka):
    return [topic.named(kafka.topic_prefix) for topic in topics.ALL]


async def test_what_a_topic_holds_is_gone_a_day_after_its_time_at_most(apply, admin, kafka):
    """By the cluster's own word: a record outlives its retention by its segment, also where hardly any come."""
    await apply()

    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names(kafka)])
    configured = {resource[3]: resource[4] for answer in answers for resource in answer.resources}
    kept = {name: [int(entry[1]) for entry in entries if entry[0] in KEPT] for name, entries in configured.items()}
    days = {name: sum(ms) / topics.DAY_MS for name, ms in kept.items()}
    assert days == {topic.named(kafka.topic_prefix): topic.retention_days + 1 for topic in topics.ALL}


async def test_a_broker_s_own_defaults_neither_delete_by_size_nor_pack_anew_nor_follow_who_lags_behind(apply, admin, kafka):
    """Deletion by age alone, batches as they were packed, and no leader that lacks what was acknowledged.

    Each topic says so itself, whatever its brokers say of all others.
    """
    await apply()

    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names(kafka)])
    configured = {resource[3]: resource[4] for answer in answers for resource in answer.resources}
    said = {name: {entry[0]: entry[1] for entry in entries if entry[3] == OF_THE_TOPIC} for name, entries in configured.items()}
    asked = {
        "retention.bytes": "-1",
        "compression.type": "producer",
        "cleanup.policy": "delete",
        "unclean.leader.election.enable": "false",
    }
    told = {name: {setting: own.get(setting) for setting in asked} for name, own in said.items()}
    assert told == dict.fromkeys(names(kafka), asked)


async def test_a_writer_whose_clock_is_wrong_shortens_no_record_s_life(apply, kafka):
    """Retention goes by the brokers' clock: one of years ago would have the record deleted, one ahead would be refused."""
    await apply()
    began_ms = int(clock.now().timestamp() * 1000)
    for theirs_ms in (1, began_ms + topics.DAY_MS):
        await put(kafka, topics.PAYMENTS_EVENTS, b"told", timestamp_ms=theirs_ms)

    written_ms = [record.timestamp_ms for record in await everything(kafka, topics.PAYMENTS_EVENTS)]
    assert [began_ms <= at_ms < began_ms + topics.DAY_MS for at_ms in written_ms] == [True, True]


async def test_the_first_run_creates_the_map_and_the_second_changes_nothing(apply, kafka):
    """Twice is as good as once, and both say what they did."""
    first = json.loads((await apply("--json")).stdout)
    second = json.loads((await apply("--json")).stdout)

    assert first == {"created": names(kafka), "unchanged": [], "differences": []}
    assert second == {"created": [], "unchanged": names(kafka), "differences": []}


async def test_a_person_reads_one_line_a_topic(apply, kafka):
    """The same answer in words."""
    created, unchanged = (await apply()).stdout.splitlines(), (await apply()).stdout.splitlines()

    assert [f"created    {name}" for name in names(kafka)] == created
    assert [f"unchanged  {name}" for name in names(kafka)] == unchanged


@pytest.fixture
def of_three(monkeypatch):
    """Let the cluster say that it has three brokers from now on."""

    def say():
        async def three(_admin, _brokers_min):
            return 3

        monkeypatch.setattr(provision, "_until_there", three)

    return say


async def test_on_three_brokers_a_topic_is_made_with_three_replicas_or_not_at_all(apply, admin, kafka, of_three):
    """What is acknowledged lies on two of them at least; here there is only one, so that Kafka refuses."""
    of_three()

    result = await apply()

    assert (result.exit_code, result.stdout) == (1, "")
    assert "replication factor" in result.stderr.lower()
    assert not set(names(kafka)) & set(await admin.list_topics())


async def test_a_topic_that_was_made_on_one_broker_is_told_of_once_there_are_three(apply, kafka, of_three):
    """It keeps one replica, whose loss is the loss of all that was acknowledged, until somebody hears of it."""
    await apply()
    of_three()

    found = json.loads((await apply("--json")).stdout)["differences"]

    assert {tuple(one.values()) for one in found} == {
        (name, *told) for name in names(kafka) for told in (("replication", "1", "3"), ("min.insync.replicas", "1", "2"))
    }


async def test_a_topic_that_another_run_makes_at_the_same_moment_is_no_failure(apply, kafka, monkeypatch):
    """Two releases begin at once, and each asks for the map."""
    await apply()
    lists, asked = AIOKafkaAdminClient.list_topics, []

    async def not_there_yet(admin):
        asked.append(admin)
        return [] if asked == [admin] else await lists(admin)

    monkeypatch.setattr(provision.AIOKafkaAdminClient, "list_topics", not_there_yet)
    monkeypatch.setattr("deploy.ops.insights.require_kafka", lambda _kafka: asyncio.sleep(0))

    result = await apply()

    assert (result.exit_code, result.stderr) == (0, "")


async def test_no_topic_is_made_while_brokers_are_missing(apply, admin, kafka, monkeypatch):
    """It would keep the replicas that it got."""
    monkeypatch.setattr(provision, "BROKERS_SECONDS_MAX", 0.2)

    result = await apply("--brokers", "3")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "1 of 3 brokers are there" in result.stderr
    assert not set(names(kafka)) & set(await admin.list_topics())


async def test_what_an_operator_changed_is_told_and_left_alone(apply, admin, kafka):
    """A shorter retention and more partitions are differences; nothing is put back, nothing is deleted."""
    await apply()
    shorter, wider = topics.STRIPE_EVENTS.named(kafka.topic_prefix), topics.EMAIL_DLT.named(kafka.topic_prefix)
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, shorter, {"retention.ms": "3600000"})])
    await admin.create_partitions({wider: NewPartitions(total_count=5)})
    await until_shown(admin, shorter=shorter, wider=wider)

    first, second, words = await apply("--json"), await apply("--json"), await apply()

    told = json.loads(first.stdout)
    found = {(one["topic"], one["setting"], one["is_now"], one["should_be"]) for one in told["differences"]}
    assert (shorter, "retention.ms", "3600000", "1209600000") in found
    assert (wider, "partitions", "5", "3") in found
    assert {shorter, wider} == {one["topic"] for one in told["differences"]}
    assert (told["created"], len(told["unchanged"])) == ([], len(topics.ALL) - 2)
    assert told == json.loads(second.stdout)
    assert f"DIFFERS    {wider}: partitions is 5, the map says 3" in words.stdout
    assert "differences were left as they are" in words.stdout
    assert [first.exit_code, second.exit_code, words.exit_code] == [0, 0, 0]


async def test_a_topic_that_is_just_being_deleted_is_told_in_one_line(apply, kafka, monkeypatch):
    """It is listed still when nobody can describe it any more."""

    async def lists_still(_admin):
        return names(kafka)

    monkeypatch.setattr(AIOKafkaAdminClient, "list_topics", lists_still)
    result = await apply()

    assert result.exit_code == 1
    assert f"{names(kafka)[0]}: it is listed and cannot be described" in result.output


async def test_other_peoples_topics_are_left_alone(apply, admin, kafka):
    """A cluster that exists holds more than ours."""
    from aiokafka.admin import NewTopic

    stranger = f"{kafka.topic_prefix}somebody.else"
    await admin.create_topics([NewTopic(stranger, num_partitions=1, replication_factor=1)])

    await apply()
    told = json.loads((await apply("--json")).stdout)

    assert stranger in await admin.list_topics()
    assert stranger not in json.dumps(told)
