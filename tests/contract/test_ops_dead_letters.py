"""`cb-ops dlt` against a real cluster: what it shows, what it puts back, and what it never does."""

import asyncio
import json
import re
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from typer.testing import CliRunner

from deploy.ops import actions, insights
from deploy.ops.cli import app
from shared import topics
from shared.db.engine import rows
from shared.errors import KafkaAway
from shared.kafka import connection, producer, provision
from shared.kafka.records import Record
from tests.support.database import query
from tests.support.topics import records_of

BY = ("--by", "Ada")
SECRET = b'{"email": "ada@example.com"}'


@pytest.fixture
async def cluster(kafka):
    """The test's own topics, there."""
    await provision.apply(kafka)
    return kafka


@pytest.fixture
def ops(kafka, database):
    """Run `cb-ops` as a person does and return its result; stdout and stderr apart."""

    async def run(*arguments):
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.kafka_bootstrap_servers),
            "TOPIC_PREFIX": kafka.topic_prefix,
            "DATABASE_URL": database.database_url.get_secret_value(),
        }
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)

    return run


async def bury(kafka, topic, *bodies, reason="wrong_shape", attempt=None, key=b"evt_1", told=()):
    """Publish dead letters as a consumer leaves them, each acknowledged before the next."""
    attempts = () if attempt is None else (("x-attempt", str(attempt).encode()),)
    async with producer.opened(kafka, client_id="tests") as publisher:
        for number, body in enumerate(bodies):
            headers = (
                ("correlation_id", b"c-1"),
                ("x-error", f"{reason}:detail {number}".encode()),
                ("x-group", b"payments"),
                ("x-origin", f"stripe.events/3/{number}".encode()),
                *attempts,
                *told,
            )
            await publisher.publish([Record(topic.named(kafka.topic_prefix), key, body, headers)])


async def test_a_list_shows_where_why_and_how_often_and_never_the_body(ops, cluster):
    """An operator reads the reason; nobody's address reaches a terminal."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, SECRET, b"second")
    await bury(cluster, topics.EMAIL_DLT, b"ticket", reason="smtp_permanent", attempt=6, key=b"booking-1")

    shown, machine = await ops("dlt", "list"), await ops("dlt", "list", "--json")

    letters = json.loads(machine.stdout)
    prefix = cluster.topic_prefix
    told = [(one["topic"], one["key"], one["reason"], one["origin"], one["attempts"]) for one in letters]
    assert told == [
        (f"{prefix}stripe.events.dlt", "evt_1", "wrong_shape:detail 0", "stripe.events/3/0", None),
        (f"{prefix}stripe.events.dlt", "evt_1", "wrong_shape:detail 1", "stripe.events/3/1", None),
        (f"{prefix}email.dlt", "booking-1", "smtp_permanent:detail 0", "stripe.events/3/0", 6),
    ]
    assert [one["offset"] for one in letters] == [0, 1, 0]
    assert all(word in shown.stdout for word in ("wrong_shape:detail 0", "stripe.events/3/1", "smtp_permanent", "6"))
    assert "ada@example.com" not in shown.stdout + machine.stdout + shown.stderr + machine.stderr


async def test_one_topic_may_be_listed_alone_under_either_name(ops, cluster):
    """The name of the map and the name in the cluster are the same topic."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one")
    await bury(cluster, topics.EMAIL_DLT, b"two", key=b"booking-1")

    short, full = [
        json.loads((await ops("dlt", "list", name, "--json")).stdout)
        for name in ("email.dlt", f"{cluster.topic_prefix}email.dlt")
    ]

    assert short == full
    assert [one["key"] for one in short] == ["booking-1"]


async def test_no_dead_letters_is_an_answer(ops, cluster):
    """Emptiness is said, and is an empty list for a script."""
    assert (await ops("dlt", "list")).stdout == "no dead letters\n"
    assert json.loads((await ops("dlt", "list", "--json")).stdout) == []


async def test_one_letter_goes_back_with_the_same_key_and_bytes_and_nothing_of_its_refusal(ops, cluster):
    """The source topic gets what it had before, marked as a replay; the dead letter stays where it is."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"first \x00\xff", b"second")
    dead = await records_of(cluster, topics.STRIPE_EVENTS_DLT)

    result = await ops("dlt", "replay", "stripe.events.dlt", "--id", f"{dead[0].partition}/0", *BY)

    [back] = await records_of(cluster, topics.STRIPE_EVENTS)
    assert (result.exit_code, back.key, back.value) == (0, b"evt_1", b"first \x00\xff")
    assert dict(back.headers) == {"correlation_id": b"c-1", "x-origin": b"stripe.events/3/0", "x-replay": b"1"}
    assert await records_of(cluster, topics.STRIPE_EVENTS_DLT) == dead
    assert f"1 went back to {cluster.topic_prefix}stripe.events" in result.stdout


@pytest.mark.parametrize("how", [(), ("--dry-run",)])
async def test_a_letter_without_its_bytes_stays_and_the_others_go_back(ops, cluster, how):
    """An empty record would be refused again: it is named, and a script hears of it."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"whole")
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"", key=b"evt_2", told=(("x-omitted-bytes", b"3000000"),))
    dead = {one.key: f"{one.partition}/{one.offset}" for one in await records_of(cluster, topics.STRIPE_EVENTS_DLT)}
    small, large = dead[b"evt_1"], dead[b"evt_2"]

    all_ = await ops("dlt", "replay", "stripe.events.dlt", "--all", *how, *BY)
    alone = await ops("dlt", "replay", "stripe.events.dlt", "--id", large, *how, *BY)

    assert [one.value for one in await records_of(cluster, topics.STRIPE_EVENTS)] == ([] if how else [b"whole"])
    assert (all_.exit_code, alone.exit_code) == (1, 1)
    assert ("evt_1" in all_.stdout, "evt_2" in all_.stdout, alone.stdout) == (True, False, "")
    assert all(large in told.stderr and small not in told.stderr for told in (all_, alone))


async def test_a_letter_that_was_given_up_enters_the_first_step_with_no_attempts(ops, cluster):
    """A replayed letter has all its attempts before it."""
    await bury(cluster, topics.EMAIL_DLT, b"ticket", attempt=6, key=b"booking-1")

    await ops("dlt", "replay", "email.dlt", "--all", *BY)

    [back] = await records_of(cluster, topics.EMAIL_LADDER[0])
    headers = dict(back.headers)
    assert (back.key, back.value, headers["x-attempt"], headers["x-replay"]) == (b"booking-1", b"ticket", b"0", b"1")
    assert "x-error" not in headers


async def test_all_may_be_narrowed_to_one_reason(ops, cluster):
    """After a fault is mended, only what it broke goes back."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one", b"two", reason="not_json")
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"three", reason="not_json_at_all")

    await ops("dlt", "replay", "stripe.events.dlt", "--reason", "not_json", *BY)

    assert {b"one", b"two"} == {record.value for record in await records_of(cluster, topics.STRIPE_EVENTS)}


async def test_of_equal_letters_one_goes_back(ops, cluster):
    """A letter that died twice lies there twice, and is one letter."""
    await bury(cluster, topics.EMAIL_DLT, b"ticket", b"ticket", b"another", key=b"booking-1")

    await ops("dlt", "replay", "email.dlt", "--all", *BY)

    assert [record.value for record in await records_of(cluster, topics.EMAIL_LADDER[0])] == [b"ticket", b"another"]


async def test_a_dry_run_shows_and_publishes_nothing(ops, cluster):
    """Looking is free."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one")

    result = await ops("dlt", "replay", "stripe.events.dlt", "--all", "--dry-run", *BY)

    assert f"1 would go back to {cluster.topic_prefix}stripe.events" in result.stdout
    assert await records_of(cluster, topics.STRIPE_EVENTS) == []


async def test_every_dead_letter_topic_can_be_put_back(ops, cluster):
    """No topic of the map is a grave without a door."""
    for topic in topics.DEAD_LETTER_TOPICS:
        await bury(cluster, topic, b"a body of this topic")

    results = [await ops("dlt", "replay", topic.name, "--all", *BY) for topic in topics.DEAD_LETTER_TOPICS]

    assert [result.exit_code for result in results] == [0, 0, 0, 0]
    for source in (topics.STRIPE_EVENTS, topics.PAYMENTS_EVENTS, topics.BOOKINGS_EVENTS, topics.EMAIL_LADDER[0]):
        assert [record.value for record in await records_of(cluster, source)] == [b"a body of this topic"]


@pytest.mark.parametrize("place", [("0", "1"), ("99", "0")], ids=["offset", "partition"])
async def test_a_letter_that_is_not_there_is_one_line_and_a_failure(ops, cluster, place):
    """A slip of the finger publishes nothing and says so."""
    partition, offset = place
    result = await ops("dlt", "replay", "stripe.events.dlt", "--id", f"{partition}/{offset}", *BY)

    assert result.exit_code == 1
    assert result.stderr == f"stripe.events.dlt holds nothing under {partition}/{offset}, or it was dropped\n"


async def test_a_letter_that_time_has_deleted_is_not_there_and_the_others_are(ops, cluster):
    """Retention cuts a log's beginning: what is gone is told as gone, and the list begins after it."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"old", b"young")
    [place] = {record.partition for record in await records_of(cluster, topics.STRIPE_EVENTS_DLT)}
    admin = AIOKafkaAdminClient(**connection.for_aiokafka(cluster))
    await admin.start()
    try:
        name = topics.STRIPE_EVENTS_DLT.named(cluster.topic_prefix)
        await admin.delete_records({TopicPartition(name, place): RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()

    gone = await ops("dlt", "replay", "stripe.events.dlt", "--id", f"{place}/0", *BY)
    listed = json.loads((await ops("dlt", "list", "--json")).stdout)

    assert gone.exit_code == 1
    assert gone.stderr == f"stripe.events.dlt holds nothing under {place}/0, or it was dropped\n"
    assert [one["offset"] for one in listed] == [1]


async def test_an_unknown_topic_is_told_with_the_known_ones(ops, cluster):
    """A topic that holds no dead letters is never read or written."""
    result = await ops("dlt", "replay", "stripe.events", "--all", *BY)

    assert result.exit_code == 1
    assert result.stderr.startswith("no dead-letter topic is called stripe.events; there are stripe.events.dlt, ")
    assert result.stderr.count("\n") == 1


async def test_topics_that_were_never_made_are_told_and_not_made(ops, kafka):
    """Reading creates nothing, whatever the cluster would create on being asked."""
    result = await ops("dlt", "list", "email.dlt")

    assert result.exit_code == 1
    assert result.stderr == f"the cluster has no topic {kafka.topic_prefix}email.dlt: run `cb-ops topics apply`\n"
    assert (await ops("dlt", "list", "email.dlt")).exit_code == 1


async def test_what_is_no_identifier_is_not_shown(ops, cluster):
    """Somebody else's record may have anything for a key, a terminal's commands included."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"x", key=b"ada@example.com", reason="odd\x1b[2J")

    result = await ops("dlt", "list")

    assert "[withheld, 15 bytes]" in result.stdout
    assert "\x1b" not in result.stdout
    assert "ada@" not in result.stdout


async def test_a_thousand_letters_are_read_and_put_back(ops, cluster):
    """More than one fetch and more than one publication."""
    name = topics.STRIPE_EVENTS_DLT.named(cluster.topic_prefix)
    bodies = {uuid.uuid4().bytes for _ in range(1000)}
    async with producer.opened(cluster, client_id="tests") as publisher:
        await publisher.publish([Record(name, body, body) for body in bodies], deadline_seconds=30)

    result = await ops("dlt", "replay", "stripe.events.dlt", "--all", *BY)

    assert "1000 went back" in result.stdout
    assert bodies == {record.value for record in await records_of(cluster, topics.STRIPE_EVENTS)}


async def deeds(engine):
    async with engine.begin() as tx:
        found = await rows(tx, "select topic, action, actor, done_at is not null from dead_letter_actions order by id")
    return [tuple(row) for row in found]


async def test_letters_are_chosen_by_what_they_are_about(ops, cluster):
    """The id of an event, payment or booking names all its dead letters, in list and in replay."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one", b"two", key=b"evt_1")
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"three", key=b"evt_2")

    listed = json.loads((await ops("dlt", "list", "stripe.events.dlt", "--id", "evt_1", "--json")).stdout)
    await ops("dlt", "replay", "stripe.events.dlt", "--id", "evt_2", *BY)

    assert [one["key"] for one in listed] == ["evt_1", "evt_1"]
    assert [record.value for record in await records_of(cluster, topics.STRIPE_EVENTS)] == [b"three"]


async def test_letters_are_chosen_by_their_age(ops, cluster):
    """Young ones are not older than an hour, and none is newer than this moment."""
    await bury(cluster, topics.EMAIL_DLT, b"one", key=b"booking-1")

    assert "no such dead letters" in (await ops("dlt", "replay", "email.dlt", "--older-than", "1h", *BY)).stdout
    assert "no such dead letters" in (await ops("dlt", "replay", "email.dlt", "--newer-than", "0s", *BY)).stdout
    assert "1 would go back" in (await ops("dlt", "replay", "email.dlt", "--newer-than", "1h", "--dry-run", *BY)).stdout
    assert json.loads((await ops("dlt", "list", "--older-than", "1h", "--json")).stdout) == []


async def test_whoever_replays_is_remembered_before_anything_is_published(ops, cluster, engine):
    """Who, what and when stand in the table, and beside the letter in the list; a dry run leaves no trace."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one")
    await ops("dlt", "replay", "stripe.events.dlt", "--all", "--dry-run", *BY)
    assert await deeds(engine) == []

    for name in ("Ada", "Grace"):
        await ops("dlt", "replay", "stripe.events.dlt", "--all", "--by", name)

    topic = f"{cluster.topic_prefix}stripe.events.dlt"
    assert await deeds(engine) == [(topic, "replay", "Ada", True), (topic, "replay", "Grace", True)]
    [listed] = json.loads((await ops("dlt", "list", "--json")).stdout)
    assert [(action["action"], action["actor"]) for action in listed["actions"]] == [("replay", "Ada"), ("replay", "Grace")]
    assert "replayed by Grace" in (await ops("dlt", "list")).stdout


async def test_what_a_newer_release_did_with_a_letter_is_told_by_its_own_word(ops, cluster, engine):
    """Whoever went back from it still sees the list, and that somebody has looked after the letter."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one")
    await ops("dlt", "replay", "stripe.events.dlt", "--all", *BY)
    await query(engine, "update dead_letter_actions set action = 'forward'")

    assert "forward by Ada" in (await ops("dlt", "list")).stdout


async def test_a_replay_that_could_not_be_published_is_not_told_as_done(ops, cluster, engine, monkeypatch):
    """The table says that it was begun, and by whom; nobody can say that it ended."""

    async def away(*_arguments):
        raise KafkaAway("away")

    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"one")
    monkeypatch.setattr(actions, "put_back", away)
    result = await ops("dlt", "replay", "stripe.events.dlt", "--all", *BY)

    assert result.exit_code == 1
    assert await deeds(engine) == [(f"{cluster.topic_prefix}stripe.events.dlt", "replay", "Ada", False)]
    assert "replay begun by Ada" in (await ops("dlt", "list")).stdout


async def test_a_dropped_letter_is_neither_listed_nor_put_back(ops, cluster, engine):
    """Given up with a name; the others stay, and whoever asks for all still sees it."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"bad", reason="not_json")
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"good", reason="broke_its_batch")

    dry = await ops("dlt", "drop", "stripe.events.dlt", "--reason", "not_json", "--dry-run", *BY)
    refused = await ops("dlt", "drop", "stripe.events.dlt", "--reason", "not_json", *BY)
    assert ("1 would be dropped" in dry.stdout, refused.exit_code, await deeds(engine)) == (True, 1, [])

    done = await ops("dlt", "drop", "stripe.events.dlt", "--reason", "not_json", "--yes", *BY)
    assert "1 dropped from" in done.stdout
    assert await deeds(engine) == [(f"{cluster.topic_prefix}stripe.events.dlt", "drop", "Ada", True)]
    [left] = json.loads((await ops("dlt", "list", "--json")).stdout)
    both = json.loads((await ops("dlt", "list", "--all", "--json")).stdout)
    await ops("dlt", "replay", "stripe.events.dlt", "--all", *BY)
    [dropped] = [one["id"] for one in both if one["id"] != left["id"]]
    gone = await ops("dlt", "replay", "stripe.events.dlt", "--id", dropped, *BY)

    assert [record.value for record in await records_of(cluster, topics.STRIPE_EVENTS)] == [b"good"]
    assert (gone.exit_code, "or it was dropped" in gone.stderr) == (1, True)


@pytest.mark.parametrize("deed", [("drop", "--yes"), ("replay",)], ids=lambda deed: deed[0])
async def test_what_was_done_with_a_letter_is_not_told_of_a_later_one_at_its_place(ops, cluster, engine, deed):
    """A topic that was made anew counts from 0 again: its letters are listed and put back, whoever dropped what lay there."""
    action, *asked = deed
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"of the topic that is gone")
    await ops("dlt", action, "stripe.events.dlt", "--all", *asked, *BY)
    # The letter at this place died a day after the deed.
    await query(engine, "update dead_letter_actions set begun_at = begun_at - interval '1 day'")

    [listed] = json.loads((await ops("dlt", "list", "--json")).stdout)
    back = await ops("dlt", "replay", "stripe.events.dlt", "--all", *BY)

    assert listed["actions"] == []
    assert "1 went back" in back.stdout


async def test_a_deed_is_told_of_its_letter_though_two_clocks_differ(ops, cluster, engine):
    """Kafka's clock says when a letter died, PostgreSQL's when somebody acted: a few seconds are no other letter."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"bad")
    await ops("dlt", "drop", "stripe.events.dlt", "--all", "--yes", *BY)
    await query(engine, "update dead_letter_actions set begun_at = begun_at - interval '10 s'")

    assert (await ops("dlt", "list")).stdout == "no dead letters\n"


async def test_one_letter_is_shown_whole(ops, cluster):
    """Headers, body, and what was done with it: on request alone, and with nothing that a terminal obeys."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, SECRET + b"\x1b[2J")
    await ops("dlt", "replay", "stripe.events.dlt", "--all", *BY)
    [listed] = json.loads((await ops("dlt", "list", "--json")).stdout)

    shown = (await ops("dlt", "show", "stripe.events.dlt", listed["id"])).stdout

    for told in ("wrong_shape:detail 0", "x-origin: stripe.events/3/0", "ada@example.com", "replay by Ada"):
        assert told in shown
    assert "\x1b" not in shown
    assert re.match(
        rf"{cluster.topic_prefix}stripe.events.dlt/\d/0 became a dead letter \d+ s ago: wrong_shape:detail 0\n", shown
    )
    assert (await ops("dlt", "show", "stripe.events.dlt", "9/9")).exit_code == 1
    assert (await ops("dlt", "show", "stripe.events.dlt", "evt_1")).exit_code == 2


async def test_a_letter_that_tells_no_reason_is_said_to_tell_none(ops, cluster):
    """Somebody else's record may lie there."""
    async with producer.opened(cluster, client_id="tests") as publisher:
        await publisher.publish([Record(topics.STRIPE_EVENTS_DLT.named(cluster.topic_prefix), b"evt_1", b"{}")])
    [listed] = json.loads((await ops("dlt", "list", "--json")).stdout)

    shown = (await ops("dlt", "show", "stripe.events.dlt", listed["id"])).stdout

    assert shown.splitlines()[0].endswith(" ago: no reason given")


async def test_ctrl_c_while_dead_letters_are_read_ends_the_command(cluster):
    """Whoever stops a replay before its first record has stopped it."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"first", b"second")

    def ctrl_c(_done, _total):
        asyncio.current_task().cancel()

    reading = asyncio.create_task(insights.dead_letters(cluster, [topics.STRIPE_EVENTS_DLT], progress=ctrl_c))

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_ctrl_c_as_the_reader_says_goodbye_ends_the_command(cluster, monkeypatch):
    """aiokafka swallows what comes then."""
    await bury(cluster, topics.STRIPE_EVENTS_DLT, b"first")
    stop = AIOKafkaConsumer.stop

    async def stop_as_ctrl_c_comes(consumer):
        asyncio.current_task().cancel()
        await stop(consumer)

    monkeypatch.setattr(AIOKafkaConsumer, "stop", stop_as_ctrl_c_comes)
    reading = insights.dead_letters(cluster, [topics.STRIPE_EVENTS_DLT], progress=lambda _done, _total: None)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(reading)
