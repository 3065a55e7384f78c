"""The map of topics against those who really subscribe and publish, and against its pages."""

import ast
import json
import re

import jsonschema_rs
import pytest
from msgspec.structs import replace

from consumers.bookings import app as bookings
from consumers.email import app as email
from consumers.email import tickets
from consumers.email.kinds import Kind
from consumers.email.ledger_writer import UNKNOWN
from consumers.email.tickets import UNDECODABLE
from consumers.payments import app as payments
from consumers.payments.translate import UNKNOWN_REASON
from ingress import pages
from ingress.payments import GENERIC_DECLINE
from shared import messages, topics
from shared.domain import booking, money, payment
from shared.domain.payment import FREES_THE_SLOT, Announcement, ClosedReason
from shared.kafka import broker, dead_letters, retry, service
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming
from tests.architecture.source import ROOT, product
from tests.support import schemas
from tests.support.members import End
from tests.support.story import example, told

PAGES = ROOT / "docs" / "topics"
PREFIX = "stage."
CONSUMERS = {"payments": payments, "bookings": bookings, "email": email}
WRITERS = ("ingress", *CONSUMERS)
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "TOPIC_PREFIX": PREFIX,
    "SMTP_HOST": "127.0.0.1",
    "SMTP_FROM_EMAIL": "noreply@culturebridge.example",
}
GROUPS = {(room, t.name, group) for t in topics.ALL for room, group in zip(t.consumers, t.groups, strict=True)}
TRAVELLING = (("correlation_id", b"evt_1"), ("traceparent", b"00-1-1-01"), ("content-type", b"application/json"))


@pytest.fixture
async def subscriptions(monkeypatch):
    """What each consumer process subscribes to, built by its own wiring; only the process's life is left out."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    built = {}

    async def capture(configured, *, name, build, trouble):
        built[name] = (configured, list(build(object(), End())))
        return 0

    monkeypatch.setattr(service, "run", capture)
    for app in CONSUMERS.values():
        await app.run(app.Settings())
    return built


async def test_who_reads_is_as_the_map_says(subscriptions):
    """Every consumer of the map subscribes, nobody else does, and each in a group of its own."""
    found = {
        (room, subscription.topic.removeprefix(PREFIX), subscription.group.removeprefix(PREFIX))
        for room, (_, subscribed) in subscriptions.items()
        for subscription in subscribed
    }

    assert found == GROUPS
    assert {(room, topic) for room, topic, _ in found} == {(room, t.name) for t in topics.ALL for room in t.consumers}
    assert len({group for _, _, group in found}) == len(found)


async def test_names_carry_the_prefix(subscriptions):
    """Staging beside production: neither topics nor groups meet."""
    for _, subscribed in subscriptions.values():
        assert all(s.topic.startswith(PREFIX) and s.group.startswith(PREFIX) for s in subscribed)


async def test_every_subscription_is_safe_as_it_is_built(subscriptions):
    """The broker that a process really makes passes the check at start: no auto-commit, earliest, nack on error."""
    for room, (configured, subscribed) in subscriptions.items():
        made = broker.create(configured, client_id=room, subscriptions=subscribed)

        broker.require_safe(made)
        assert len(made.subscribers) == len(subscribed)


@pytest.mark.parametrize("room", WRITERS)
def test_who_writes_is_as_the_map_says(room):
    """A room names the topics that the map gives it, to read or to write, and no others."""
    constants = {name: value for name, value in vars(topics).items() if isinstance(value, topics.Topic)}
    folder = "ingress/" if room == "ingress" else f"consumers/{room}/"
    used = {name for one in product() if one.path.startswith(folder) for name in one.names & constants.keys()}

    ladder = {name for one in product() if one.path.startswith(folder) for name in one.names & {"EMAIL_LADDER"}}
    named = {constants[name] for name in used} | (set(topics.EMAIL_LADDER) if ladder else set())
    assert named == {t for t in topics.ALL if room in t.producers + t.consumers}


def test_every_source_that_is_read_has_dead_letters():
    """What cannot be taken has a place to go, named after where it lay."""
    sources = {topic.name for topic in topics.ALL if topic.consumers and topic not in topics.EMAIL_LADDER}

    assert {f"{source}.dlt" for source in sources} | {"email.dlt"} == {topic.name for topic in topics.DEAD_LETTER_TOPICS}
    assert set(topics.DEAD_LETTER_TOPICS) <= set(topics.ALL)
    assert len({topic.name for topic in topics.ALL}) == len(topics.ALL)


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_a_page_says_what_the_map_says(topic):
    """Writers, readers, key, value, retention and partitions: whoever changes the map changes the page."""
    facts = table(page(topic), "| | |")

    assert code(facts["Written by"]) == list(topic.producers)
    if topic.consumers:
        assert code(facts["Read by"]) == list(topic.consumers)
        groups = zip(topic.consumers, code(facts["Consumer group"]), strict=True)
        assert {(room, topic.name, group) for room, group in groups} <= GROUPS
    else:
        assert facts["Read by"].startswith("operators")
        assert "Consumer group" not in facts
    assert facts["Key"] == topic.key
    assert facts["Value"] == topic.value
    assert facts["Kept"] == f"{topic.retention_days} days"
    assert facts["Partitions"] == str(topic.partitions)
    assert facts["Order"]


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_a_page_shows_its_examples_as_they_are(topic):
    """Every example file of a topic stands on its page, byte for byte, with its link."""
    text = page(topic)
    files = sorted((ROOT / "tests/examples/messages").glob(f"{topic.name}.v1*.json"))

    assert files
    assert sorted(re.findall(r"```json\n(.*?)```", text, re.DOTALL)) == sorted(path.read_text() for path in files)
    for path in files:
        assert f"../../tests/examples/messages/{path.name}" in text


def test_every_page_has_a_topic_and_the_overview_names_all():
    """No page of a topic that is gone."""
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == {topic.name for topic in topics.ALL}
    assert code_links((PAGES / "README.md").read_text()) == [topic.name for topic in topics.ALL]


def test_schema_tables_name_every_field_in_its_order():
    """The page and the class that is encoded are one list."""
    envelope = [*messages.Envelope.__struct_fields__]
    for topic, *classes in (
        (topics.PAYMENTS_EVENTS, envelope, messages.PaymentState.__struct_fields__),
        (topics.BOOKINGS_EVENTS, envelope, messages.BookingChange.__struct_fields__),
        *((step, messages.LetterTicket.__struct_fields__) for step in topics.EMAIL_LADDER),
        (topics.EMAIL_DLT, messages.LetterTicket.__struct_fields__),
    ):
        schema = page(topic).partition("## Schema")[2]
        tables = re.findall(r"\| field.*?\n\|[-|]+\n((?:\|.*\n)+)", schema)
        found = [re.findall(r"^\| `(\w+)`", rows, re.MULTILINE) for rows in tables]
        assert found == [list(fields) for fields in classes], topic.name


PUBLIC = {topics.PAYMENTS_EVENTS: messages.PaymentState, topics.BOOKINGS_EVENTS: messages.BookingChange}
BOOKING_REASONS = {"refunded", *booking.Conflict}


def schema_of(topic):
    """The envelope's schema and that of its data."""
    [data] = schemas.SCHEMAS[topic.name]["$defs"].values()
    return schemas.SCHEMAS[topic.name], data


@pytest.mark.parametrize("topic", PUBLIC, ids=lambda topic: topic.name)
def test_a_schema_is_of_what_is_written(topic):
    """Every field in its order; required is what every message says, since an older release's may lack what has a default."""
    envelope, data = schema_of(topic)
    told = PUBLIC[topic]
    optional = told.__struct_fields__[len(told.__struct_fields__) - len(told.__struct_defaults__) :]

    assert envelope["$id"] == f"urn:culturebridge:{topic.name}:v1"
    assert list(envelope["properties"]) == list(messages.Envelope.__struct_fields__) == envelope["required"]
    assert list(data["properties"]) == list(told.__struct_fields__)
    assert data["required"] == [name for name in told.__struct_fields__ if name not in optional]


def test_a_schema_lists_the_values_that_there_are():
    """What is an enum there is an enum of ours: a new value is a new schema, by what docs/topics/README.md promises."""
    found = {
        (topic.name, name): set(spelled["enum"]) - {None}
        for topic in PUBLIC
        for name, spelled in schema_of(topic)[1]["properties"].items()
        if "enum" in spelled
    }

    assert found == {
        ("payments.events", "status"): {str(one) for one in payment.Status},
        ("payments.events", "closed_reason"): {str(one) for one in ClosedReason},
        ("bookings.events", "status"): {str(one) for one in booking.Status},
        ("bookings.events", "reason"): {str(one) for one in BOOKING_REASONS},
    }


@pytest.mark.parametrize("topic", PUBLIC, ids=lambda topic: topic.name)
def test_a_schema_takes_the_examples_and_what_a_newer_writer_adds_and_nothing_less(topic):
    """Each example, also with fields that nobody knows yet; without one that is required, or with another type, none."""
    for path in (ROOT / "tests/examples/messages").glob(f"{topic.name}.v1*.json"):
        event = json.loads(path.read_text())
        schemas.hold(topic.name, json.dumps(event | {"added": 1, "data": event["data"] | {"added": 1}}))
        for name in schema_of(topic)[1]["required"]:
            less = {key: value for key, value in event["data"].items() if key != name}
            for broken in (less, less | {name: []}):
                with pytest.raises(jsonschema_rs.ValidationError):
                    schemas.hold(topic.name, json.dumps(event | {"data": broken}))


@pytest.mark.parametrize("topic", PUBLIC, ids=lambda topic: topic.name)
def test_readers_are_led_to_the_schema(topic):
    """From the topic's page and from the overview."""
    for text in (page(topic), (PAGES / "README.md").read_text()):
        assert f"({topic.name}.v1.schema.json)" in text


def test_readers_are_told_how_amounts_are_counted():
    """By ISO 4217's own table 1,000 krónur of ours would be read as 100,000, and 7,500 ariary as 75."""
    amounts = " ".join((PAGES / "README.md").read_text().partition("- **Amounts.**")[2].partition("\n- **")[0].split())
    told = {decimals: set(codes.split()) for decimals, codes in re.findall(r"(none|three) for `([A-Z ]+)`", amounts)}
    counted = {name: {c for c, s in money.SCALES.items() if s.decimals == n} for name, n in {"none": 0, "three": 3}.items()}

    assert told == counted
    for code, minor in re.findall(r"\b([A-Z]{3}) (\d+) are", amounts):
        assert f"{code} {minor} are {money.to_decimal(int(minor), code):f}" in amounts
    for topic in PUBLIC:
        for name, spelled in schema_of(topic)[1]["properties"].items():
            if name.endswith("_minor"):
                assert "as Stripe counts them" in spelled["description"]
                [row] = re.findall(rf"^\| `{name}` \|.*$", page(topic), re.MULTILINE)
                assert "as Stripe counts them ([Amounts](README.md#" in row


@pytest.mark.parametrize("topic", [*topics.EMAIL_LADDER, topics.EMAIL_DLT], ids=lambda topic: topic.name)
def test_every_kind_of_letter_stands_on_the_pages_of_its_tickets(topic):
    """A new letter is a new value of a field that others read."""
    [kinds] = re.findall(r"^\| `kind` \|[^|]*\|([^|]*)\|$", page(topic), re.MULTILINE)

    assert code(kinds) == [str(one) for one in Kind]


def test_every_type_of_event_stands_on_its_page():
    """Readers filter by type: the list is complete and has nothing else."""
    on_page = set(re.findall(r"`(payment\.\w+)`", page(topics.PAYMENTS_EVENTS)))
    assert on_page == {str(one) for one in Announcement}
    announced = {event.name for event in map(messages.booking_changes.decode, booking_events())}
    assert set(re.findall(r"`(booking\.\w+)`", page(topics.BOOKINGS_EVENTS))) == announced


def test_every_reason_of_ours_stands_where_it_is_read():
    """A reader who knows all reasons of a failure and of an end meets no other."""
    fields = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", page(topics.PAYMENTS_EVENTS), re.MULTILINE))
    api = json.loads(pages.OPENAPI)["components"]["schemas"]["Payment"]["properties"]["failure_reason"]["description"]
    failed = {str(one) for one in FREES_THE_SLOT} | {UNKNOWN_REASON}

    assert set(re.findall(r"`(\w+)`", fields["closed_reason"])) == {str(one) for one in ClosedReason}
    assert set(re.findall(r"`(\w+)`", fields["failure_reason"])) == failed
    assert set(re.findall(r"`(\w+)`", api)) == failed | {GENERIC_DECLINE}


def words(path, *, asked):
    """The codes in those nodes of a file for which `asked` holds: a code ends at its colon."""
    [tree] = [one.tree for one in product() if one.path == path]
    constants = (inner for node in ast.walk(tree) if asked(node) for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    found = {str(constant.value).partition(":")[0] for constant in constants}
    return {code for code in found if re.fullmatch(r"[a-z]+(_[a-z]+)*", code)}


def makes(name):
    return lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) == name


def refused(consumer):
    """The codes by which a consumer refuses a record."""
    halved = words("shared/kafka/batch.py", asked=makes("Refused"))
    match consumer:
        case "payments":
            quarantined = words("consumers/payments/decide.py", asked=lambda node: getattr(node, "name", None) == "mismatch")
            return halved | quarantined | words("consumers/payments/translate.py", asked=makes("Refusal"))
        case "bookings":
            judged = words("consumers/bookings/handlers.py", asked=makes("Refused"))
            return halved | judged | words("consumers/bookings/decide.py", asked=makes("Refused"))
        case "email":
            return halved | {UNDECODABLE} | words("consumers/email/kinds.py", asked=makes("Unusable"))


def given_up():
    """The codes by which the email consumer gives a letter up, or a ticket."""
    written = words("consumers/email/compose.py", asked=makes("Unwritten"))
    unaccepted = "consumers/email/unaccepted.py"
    judged = words(unaccepted, asked=lambda node: isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "kind")
    return {UNDECODABLE, UNKNOWN} | written | judged | words("consumers/email/sending.py", asked=makes("Unwritten"))


@pytest.mark.parametrize("topic", topics.DEAD_LETTER_TOPICS, ids=lambda topic: topic.name)
def test_every_code_of_a_dead_letter_stands_on_its_page(topic):
    """`--reason` of `cb-ops dlt` takes these, and whoever replays has to know what to mend first."""
    [told] = re.findall(r"Codes of `x-error`: (.*?)\n\n", page(topic), re.DOTALL)
    expected = given_up() if topic is topics.EMAIL_DLT else set().union(*map(refused, topic.producers))

    assert set(re.findall(r"`([a-z_]+)`", told)) == expected


def test_dead_letters_carry_the_headers_of_their_page():
    """What an operator reads there is what a consumer writes."""
    record = Incoming("stripe.events", 3, 7, b"evt_1", b"{", TRAVELLING)
    made = dead_letters.letter(Refused(record, "not_json"), topic="stripe.events.dlt", group="payments")

    large = dead_letters.letter(
        Refused(replace(record, value=bytes(2**21)), "not_json"), topic="stripe.events.dlt", group="payments"
    )

    for topic in topics.DEAD_LETTER_TOPICS[:3]:
        assert headers(topic) == {name for name, _ in made.headers + large.headers}


def test_tickets_carry_the_headers_of_their_page():
    """The step's records, replayed or not, and the letters that were given up."""
    travelling = (*TRAVELLING[:2], ("x-replay", b"1"))
    due = tickets.read(Incoming("email.retry.1s", 0, 0, b"b", example("email.retry.1s.v1"), travelling))
    ladder = retry.steps(topics.EMAIL_LADDER, prefix="")
    later, (undecided, _) = tickets.later(due, ladder[0], now_ms=1), tickets.undecided(due, ladder, now_ms=1)
    dead = tickets.dead_letter(due, topic="email.dlt", group="email", attempts=6, reason="smtp_permanent")

    for topic, step in zip(topics.EMAIL_LADDER, ladder, strict=True):
        tried = tickets.tried(due, step, attempts=2, reason="smtp_transient", now_ms=1)
        assert headers(topic) == {name for name, _ in later.headers + undecided.headers + tried.headers}
    assert headers(topics.EMAIL_DLT) == {name for name, _ in dead.headers} | {dead_letters.OMITTED_BYTES}


def booking_events():
    """One event for each outcome of `shared.domain.booking` that is announced."""
    return [value for name, value in told().items() if name.startswith("bookings.")]


def page(topic):
    return (PAGES / f"{topic.name}.md").read_text()


def table(text, head):
    """The rows of the table under this head, by their first cell."""
    rows = text.partition(head + "\n")[2].partition("\n\n")[0].splitlines()[1:]
    return dict(re.fullmatch(r"\| (.*?) \| (.*) \|", row).groups() for row in rows)


def headers(topic):
    return {name for cell in table(page(topic), "| header | value |") for name in code(cell)}


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def code_links(text):
    return re.findall(r"^\| \[([\w.]+)\]\(\1\.md\) \|", text, re.MULTILINE)
