"""The operator's command without a world: what it refuses, and how a dead letter is described and repeated."""

import io
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import OffsetAndMetadata
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.ops import dead_letters, insights, show
from deploy.ops.cli import app
from deploy.ops.commands import dead_letters as dead_letter_commands
from deploy.ops.dead_letters import Selection
from deploy.ops.errors import DatabaseUnavailable, NotFound, database_errors_as_ops_errors
from shared import settings, topics
from shared.kafka.dead_letters import Refused, letter
from shared.kafka.record_sizes import bytes_max
from shared.kafka.records import Incoming, Record

NAMES = ["x-error", "x-group", "x-origin", "x-attempt", "x-replay", "x-omitted-bytes", "x-foreign"]
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.binary()))


def run(*arguments, **environment):
    unset = {"KAFKA_BOOTSTRAP_SERVERS": "", "DATABASE_URL": ""}
    return CliRunner().invoke(app, arguments, env=unset | environment)


@pytest.mark.parametrize("command", ["replay", "drop"])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dry-run",),
        ("--all", "--id", "1/1"),
        ("--all", "--reason", "not_json"),
        ("--older-than", "yesterday"),
        ("--newer-than", "-5m"),
        ("--all", "--by", " "),
    ],
)
def test_who_acts_upon_dead_letters_must_say_which_and_who(command, arguments):
    """A call that could mean two things does neither, and nobody acts without a name."""
    named = arguments if "--by" in arguments else (*arguments, "--by", "Ada")
    world = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9", "DATABASE_URL": "postgresql://x/y"}

    assert run("dlt", command, "stripe.events.dlt", *named, **world).exit_code == 2
    assert run("dlt", command, "stripe.events.dlt", "--all", **world).exit_code == 2


@pytest.mark.parametrize("password", ["s3cret#tail", "s3cret/tail", "s3cret?tail", "s3cret[tail", "s3cret%23tail"])
async def test_a_database_that_is_away_is_named_without_its_password(password):
    """However it is spelt: half of it must not pass for a port, nor make a traceback of the one line."""
    database = settings.Database(database_url=f"postgresql://ada:{password}@db.internal:5433/culturebridge", _env_file=None)

    with pytest.raises(DatabaseUnavailable) as told:
        async with database_errors_as_ops_errors(database):
            raise ConnectionRefusedError("away")

    assert str(told.value) == "PostgreSQL at db.internal:5433/culturebridge: ConnectionRefusedError: away"


def commands(application, *before):
    """Every command of `cb-ops` as one types it."""
    for command in application.registered_commands:
        yield " ".join((*before, command.name or command.callback.__name__))
    for group in application.registered_groups:
        yield from commands(group.typer_instance, *before, group.typer_instance.info.name)


def test_every_command_stands_on_the_operators_page():
    """What nobody can look up at three in the morning does not exist."""
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()

    assert [command for command in commands(app, "cb-ops") if f"`{command}" not in page] == []


def test_what_is_wanted_narrows_by_every_condition():
    """By place or key, by the reason's code, by age; what is not asked for does not count."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    letter = dead_letters.describe(
        Incoming("x.dlt", 1, 7, b"evt_1", b"", (("x-error", b"not_json:at 3"),), int((now.timestamp() - 3600) * 1000))
    )
    hour, minute = timedelta(hours=1), timedelta(minutes=1)

    fitting = [
        Selection(),
        Selection(ids=("0/0", "1/7")),
        Selection(ids=("evt_1",)),
        Selection(code="not_json"),
        Selection(older_than=hour - minute),
        Selection(newer_than=hour + minute, code="not_json", ids=("1/7",)),
    ]
    not_fitting = [
        Selection(ids=("7/1",)),
        Selection(code="not"),
        Selection(older_than=hour + minute),
        Selection(newer_than=hour - minute),
        Selection(ids=("evt_1",), code="other"),
    ]
    assert [selection.fits(letter, now=now) for selection in fitting] == [True] * 6
    assert [selection.fits(letter, now=now) for selection in not_fitting] == [False] * 5


@pytest.mark.parametrize(("told", "seconds"), [("90s", 90), ("15m", 15 * 60), ("2h", 2 * 3600), ("3d", 3 * 86_400)])
def test_an_age_is_as_long_as_it_says(told, seconds):
    """Who gives up what is older than three days keeps what is three hours old."""
    assert dead_letter_commands._age(told, "--older-than") == timedelta(seconds=seconds)


@pytest.mark.parametrize("spelt", [str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda known: known.replace("-", "")])
def test_an_id_of_ours_is_known_however_it_is_spelt(spelt):
    """As `why` and `attention resolve` take it: what a person copies from elsewhere may stand in capitals."""
    known = "7f3c7a3e-0000-4000-8000-00000000abcd"
    letter = dead_letters.describe(Incoming("x.dlt", 1, 7, known.encode(), b""))

    assert letter.answers_to(spelt(known))
    assert Selection(ids=(spelt(known),)).fits(letter, now=letter.died_at)


def test_an_id_of_stripe_is_known_as_it_is_spelt():
    """There capitals tell two ids apart."""
    letter = dead_letters.describe(Incoming("x.dlt", 1, 7, b"evt_1Abc", b""))

    assert letter.answers_to("evt_1Abc")
    assert not letter.answers_to("evt_1ABC")


def test_a_key_that_stands_in_capitals_is_known_as_well():
    """Somebody else's record may have it so."""
    key = "7F3C7A3E-0000-4000-8000-00000000ABCD"
    letter = dead_letters.describe(Incoming("x.dlt", 1, 7, key.encode(), b""))

    assert letter.answers_to(key)
    assert letter.answers_to(key.lower())


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (("migrate",), "DATABASE_URL"),
        (("attention", "list"), "DATABASE_URL"),
        (("attention", "resolve", "7f3c7a3e-0000-4000-8000-000000000000", "--by", "Ada"), "DATABASE_URL"),
        (("why", "7f3c7a3e-0000-4000-8000-000000000000"), "DATABASE_URL"),
        (("waiting", "list"), "DATABASE_URL"),
        (("waiting", "drop", "evt_1", "--by", "Ada", "--yes"), "DATABASE_URL"),
        (("inbox", "prune"), "DATABASE_URL"),
        (("topics", "apply"), "KAFKA_BOOTSTRAP_SERVERS"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_asks_for_the_one_setting_that_it_needs(command, variable, tmp_path, monkeypatch):
    """Each reads only its own: migrating needs no Kafka, topics no database."""
    monkeypatch.chdir(tmp_path)  # a developer's .env would answer
    result = run(*command)

    assert (result.exit_code, result.stderr) == (2, f"{variable}: is not set\n")


def test_who_resolved_a_matter_must_have_a_name():
    """An audit of blanks is none."""
    result = run("attention", "resolve", "7f3c7a3e-0000-4000-8000-000000000000", "--by", "  ", DATABASE_URL="postgresql://x/y")

    assert result.exit_code == 2


def test_only_dead_letter_topics_are_known():
    """The name in the map, or the one in the cluster; a source topic is not a place to replay from."""
    assert insights.dead_letter_topic("email.dlt", prefix="stage.") is topics.EMAIL_DLT
    assert insights.dead_letter_topic("stage.email.dlt", prefix="stage.") is topics.EMAIL_DLT
    for name in ("stripe.events", "prod.email.dlt", ""):
        with pytest.raises(NotFound):
            insights.dead_letter_topic(name, prefix="stage.")


def test_every_dead_letter_topic_has_a_way_back():
    """Whoever adds one to the map is told here; it goes back to a topic that somebody reads."""
    assert set(dead_letters.REPLAYED_TO) == set(topics.DEAD_LETTER_TOPICS)
    for source, goal in dead_letters.REPLAYED_TO.items():
        assert goal.consumers, source.name


@given(key=st.binary(max_size=100), value=st.binary(), headers=HEADERS)
def test_any_bytes_are_described_without_harm_and_repeated_exactly(key, value, headers):
    """Strangers' headers break nothing; key and bytes survive; nothing that a terminal obeys is shown."""
    record = Incoming("email.dlt", 1, 2, key, value, tuple(headers), 1_790_000_000_000)

    shown = dead_letters.describe(record)
    back = dead_letters.replayed(record, topics.EMAIL_DLT, prefix="p.")

    assert (shown.key + shown.reason + shown.group + shown.origin).isprintable()
    assert (back.topic, back.key, back.value) == ("p.email.retry.1s", key, value)
    assert [number for name, number in back.headers if name == "x-attempt"] == [b"0"]
    assert [mark for name, mark in back.headers if name == "x-replay"] == [b"1"]
    assert not [name for name, _ in back.headers if name in {"x-error", "x-group", "x-due-ms"}]


@pytest.mark.parametrize("source", [topics.STRIPE_EVENTS_DLT, topics.PAYMENTS_EVENTS_DLT, topics.BOOKINGS_EVENTS_DLT])
def test_however_often_a_letter_dies_it_says_where_it_lay_first(source):
    """Refused, put back and refused again: readers of its topic, and operators, are told the first place, as the pages say."""
    goal = dead_letters.REPLAYED_TO[source].name
    came = (("correlation_id", b"evt_1"), ("x-origin", b"reconciliation"))
    offsets = iter(range(9, 99))

    def lying(topic, record):
        return Incoming(topic, 3, next(offsets), record.key, record.value, record.headers)

    back = Incoming(goal, 2, 1, b"k", b"v", came)
    for _ in range(2):
        died = lying(source.name, letter(Refused(back, "not_json"), topic=source.name, group="g"))
        back = lying(goal, dead_letters.replayed(died, source, prefix=""))
        assert {name for name, _ in died.headers} == {"correlation_id", "x-error", "x-group", "x-origin"}
        assert [dead_letters.describe(died).origin, back.header("x-origin")] == [f"{goal}/2/1", f"{goal}/2/1".encode()]


@given(
    key=st.binary(max_size=2),
    value=st.binary(max_size=2),
    headers=HEADERS,
    reason=st.text(max_size=400),
    times=st.integers(1, 600_000),
)
@hypothesis.example(key=b"kk", value=b"", headers=[], reason="not_json", times=600_000)
@hypothesis.settings(max_examples=50)
def test_whatever_came_its_dead_letter_fits(key, value, headers, reason, times):
    """Key, value and headers of any size: the letter can be published, whole, or with its place and without its bytes."""
    key, value, headers = key * times, value * times, tuple((name, told * times) for name, told in headers)
    record = Incoming("stripe.events", 3, 7, key, value, headers)
    made = letter(Refused(record, reason), topic="stripe.events.dlt", group="payments")
    shown = dead_letters.describe(Incoming(made.topic, 0, 0, made.key, made.value, made.headers))

    assert bytes_max(made) <= topics.DEAD_LETTER_BYTES_MAX
    assert (made.key in {key, b""}, made.value) == (True, b"" if shown.bytes_omitted else value)
    if shown.bytes_omitted:
        assert bytes_max(Record("", key, value, headers)) > topics.MESSAGE_BYTES_MAX
        assert record.header("x-replay") is not None or shown.origin == "stripe.events/3/7"


def test_only_letters_count_attempts():
    """Elsewhere nobody counted, and a replay invents nothing."""
    back = dead_letters.replayed(Incoming("stripe.events.dlt", 0, 0, b"k", b"v"), topics.STRIPE_EVENTS_DLT, prefix="")

    assert back.headers == (("x-replay", b"1"),)


def test_without_a_terminal_a_line_of_a_table_stays_a_line(capsys):
    """However long it is: who looks for an id with grep finds what belongs to it."""
    reason = "wrong_shape:" + "Object missing required field " * 8
    show.table(("id", "reason", "done"), [("0/1", reason, None), ("0/22", "not_json", "replayed by 李")])

    assert capsys.readouterr().out.splitlines() == [
        f"id    {'reason':<{len(reason)}}  done",
        f"0/1   {reason.rstrip()}",
        f"0/22  {'not_json':<{len(reason)}}  replayed by 李",
    ]


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Let stdout be a terminal of so many columns; returns what a table shows there, line by line, without its bold type."""

    def shows(columns, *arguments, **options):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        for name, value in (("TERM", "xterm"), ("COLUMNS", str(columns))):
            monkeypatch.setenv(name, value)
        show.table(*arguments, **options)
        return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]

    return shows


MATTER = "7f3c7a3e-0000-4000-8000-000000000000"
MATTERS = (("id", "age", "reason", "resolved by"), [(MATTER, "3 d", "amount_mismatch and more " * 4, None)] * 2)


def test_on_a_terminal_an_id_stays_in_one_piece_and_the_rest_goes_on_below(terminal):
    """It is there to be copied."""
    head, *lines = terminal(80, *MATTERS, whole=["id"])

    assert head.split() == ["id", "age", "reason", "resolved", "by"]
    assert [line[:36] for line in lines if line[:36].strip()] == [MATTER, MATTER]
    assert "".join(line[43:].strip() for line in lines).replace(" ", "") == "amount_mismatchandmore" * 8
    assert len(lines) > 2


@pytest.mark.parametrize("columns", [20, 40, 52])
def test_on_a_terminal_that_is_too_narrow_a_line_of_a_table_is_told_field_by_field(terminal, columns):
    """An id goes on beyond the edge, as any long line does, and whoever copies it has it whole; what is empty is not told."""
    reason = MATTERS[1][0][2].rstrip()

    one = [f"id           {MATTER}", "age          3 d", f"reason       {reason}", ""]
    assert terminal(columns, *MATTERS, whole=["id"]) == one * 2


@pytest.fixture
def stderr(monkeypatch):
    """Let stderr be a terminal, or none, in an environment; returns what progress of two seconds writes there."""

    def shows(*, is_terminal, **environment):
        said = io.StringIO()
        said.isatty = lambda: is_terminal
        monkeypatch.setattr(sys, "stderr", said)
        moments = iter([0.0, 0.5, 2.0, 2.5])
        monkeypatch.setattr(show.clock, "monotonic", lambda: next(moments))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with show.progress("reading") as told:
            for done in (1, 2, 3):
                told(done, 9)
        return said.getvalue()

    return shows


@pytest.mark.parametrize(
    ("is_terminal", "environment"),
    [
        (False, {"FORCE_COLOR": "1", "TERM": "xterm"}),
        (False, {"TTY_COMPATIBLE": "1", "TERM": "xterm"}),
        (True, {"TERM": "dumb"}),
    ],
)
def test_progress_is_a_line_now_and_then_where_no_line_can_be_overwritten(stderr, is_terminal, environment):
    """A log that wants colours (continuous integration) has no use for a wheel that turns; an editor's shell shows none."""
    assert stderr(is_terminal=is_terminal, **environment) == "reading: 2 of 9\n"


class Group:
    """What a cluster says that a group has committed: offsets by partition (None: no answer), or that it has no groups yet."""

    def __init__(self, *offsets):
        self.offsets = offsets

    async def list_consumer_group_offsets(self, _group, partitions):
        if not self.offsets:
            raise GroupCoordinatorNotAvailableError
        told = {partition: self.offsets[partition.partition] for partition in partitions}
        return {partition: OffsetAndMetadata(offset, "") for partition, offset in told.items() if offset is not None}


@pytest.mark.parametrize(
    ("group", "left"),
    [
        (Group(9, 5), 0),
        (Group(7, 5), 2),
        (Group(12, 3), 2),
        (Group(-1, -1), 7),
        (Group(2, 5), 5),
        (Group(None, 5), 5),
        (Group(None, None), 7),
        (Group(), 7),
    ],
)
async def test_what_a_group_has_before_it_is_counted_by_partition(group, left):
    """Ahead in one partition, since more came there, is behind in the other all the same; what was deleted is not counted."""
    spans = {TopicPartition("t", 0): (4, 9), TopicPartition("t", 1): (3, 5)}

    assert await insights._left(group, "payments", spans) == left
