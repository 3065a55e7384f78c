"""The one story of batches on real PostgreSQL and a real broker: what is refused, what rewinds, what is told in which order."""

import asyncio
import random
from dataclasses import dataclass

import pytest
from sqlalchemy.exc import DBAPIError

from shared import messages, metrics, settings
from shared.db import data_errors
from shared.db import engine as engines
from shared.db.data_errors import folding
from shared.db.engine import rows
from shared.db.error_names import error_name
from shared.kafka import batch, producer, provision
from shared.kafka.batch import Applied, Batches, Emitted, TooManyCulprits
from shared.kafka.dead_letters import Refused
from shared.topics import STRIPE_EVENTS, STRIPE_EVENTS_DLT
from tests.support.builders import record
from tests.support.members import THINGS, committed, everything, make_topics, member, put
from tests.support.waiting import until

LARGEST = STRIPE_EVENTS.message_bytes_max - 100
CREATE = "create table effects (value text primary key check (value <> 'unwanted'), number smallint)"


@dataclass(frozen=True)
class Item:
    record: object
    text: str


class Effects:
    """A consumer whose records say what goes wrong with them; every other one becomes a row and an event."""

    def __init__(self):
        self.applied = []
        self.noted = []
        self.told = []
        self.on_apply = None
        self.at_once_max = 4_000

    def judge(self, record):
        if record.value == b"no event":
            return Refused(record, "not_json")
        return Item(record, record.value.decode("latin-1"))

    def keys(self, item):
        return [item.text]

    async def items_at_once_max(self, engine):
        return self.at_once_max

    async def apply(self, tx, items):
        if self.on_apply is not None:
            await self.on_apply(tx, items)
        with folding():
            for item in items:
                if item.text == "breaks the fold":
                    raise KeyError(item.text)
                if item.text == "finds no memory":
                    raise MemoryError
        for item in items:
            text = item.text.encode("ascii").decode() if item.text.startswith("\xff") else item.text
            number = 10**6 if text == "too large" else 1
            await rows(tx, "insert into effects values ($1, $2) on conflict do nothing", text, number)
        self.applied.append([item.text for item in items])
        return Applied(
            [Emitted(b'{"subject":"%s"}' % item.record.value, item.record) for item in items],
            [Refused(item.record, "not_ours") for item in items if item.text == "of somebody else"],
            [lambda: self.told.extend(item.text for item in items)],
        )

    async def record_culprit(self, tx, item, reason):
        await rows(tx, "select $1::text", item.text)
        self.noted.append((item.record.value, reason))


class Published:
    def __init__(self):
        self.records = []
        self.calls = 0

    async def publish(self, records, *, deadline_seconds=5.0):
        self.calls += 1
        self.records += records


@pytest.fixture
async def table(engine):
    async with engine.begin() as tx:
        await tx.exec_driver_sql(CREATE)


@pytest.fixture
def effects():
    return Effects()


@pytest.fixture
def published():
    return Published()


@pytest.fixture
def batches(engine, table, effects, published):
    return Batches(effects, engine=engine, producer=published, group="g", target="out", refusals="out.dlt")


async def stored(engine):
    async with engine.begin() as tx:
        return {row[0] for row in await rows(tx, "select value from effects")}


def refusals(published):
    return {r.value: dict(r.headers)["x-error"].decode() for r in published.records if r.topic == "out.dlt"}


CULPRITS = [
    (b"bad\x00text", "22021"),
    (b"too large", "22000"),
    (b"unwanted", "23514"),
    (b"\xffno ascii", "UnicodeEncodeError"),
    (b"breaks the fold", "FoldBroken"),
]


@pytest.mark.parametrize(("culprit", "told"), CULPRITS, ids=[told for _, told in CULPRITS])
@pytest.mark.parametrize("place", [0, 6, 12])
async def test_an_error_of_data_costs_only_its_own_record(batches, effects, published, engine, culprit, told, place):
    """The batch is halved down to the one culprit, which goes to the dead letters with its bytes; its neighbours go on."""
    others = [str(n).encode() for n in range(12)]
    await batches.handle([record(value) for value in (*others[:place], culprit, *others[place:])])

    assert refusals(published).keys() == {culprit}
    assert told in refusals(published)[culprit]
    assert refusals(published)[culprit].startswith("broke_its_batch:")
    assert effects.noted == ([] if b"\x00" in culprit else [(culprit, refusals(published)[culprit])])
    assert await stored(engine) == {value.decode() for value in others}
    assert {r.value for r in published.records if r.topic == "out"} == {b'{"subject":"%s"}' % value for value in others}


async def test_several_culprits_and_a_record_that_is_none_are_all_refused(batches, published, engine):
    """Two halves may each have their own; what could not be decoded joins them."""
    values = [b"a", b"unwanted", b"b", b"no event", b"c", b"breaks the fold", b"d"]
    await batches.handle([record(value) for value in values])

    assert refusals(published).keys() == {b"unwanted", b"no event", b"breaks the fold"}
    assert await stored(engine) == {"a", "b", "c", "d"}


async def test_a_culprit_takes_no_other_s_refusal_nor_what_is_told_of_it_along(batches, effects, published):
    """What the halves of its batch refuse is refused, and what they did is counted, once and after their commit."""
    values = [b"of somebody else", b"a", b"unwanted", b"b", b"of somebody else"]
    counted = [metrics.dead_letters.labels("out.dlt", code)._value for code in ("broke_its_batch", "not_ours")]
    before = [value.get() for value in counted]
    await batches.handle([record(value) for value in values])

    told = [dict(r.headers)["x-error"].partition(b":")[0] for r in published.records if r.topic == "out.dlt"]
    assert sorted(told) == [b"broke_its_batch", b"not_ours", b"not_ours"]
    assert [value.get() - was for value, was in zip(counted, before, strict=True)] == [1, 2]
    assert sorted(effects.told) == sorted(value.decode() for value in values if value != b"unwanted")


async def test_a_lost_connection_is_the_world_s_fault(batches, effects, published, engine):
    """PostgreSQL ends our session in mid-transaction: nothing is refused, nothing stays, the next try succeeds."""

    async def lose(tx, items):
        effects.on_apply = None
        [(pid,)] = await rows(tx, "select pg_backend_pid()")
        async with engine.connect() as other:
            await rows(other, "select pg_terminate_backend($1)", pid)

    effects.on_apply = lose
    with pytest.raises(engines.TROUBLE) as lost:
        await batches.handle([record(b"a"), record(b"b")])
    assert not data_errors.is_data_error(lost.value)
    assert (published.calls, await stored(engine)) == (0, set())

    await batches.handle([record(b"a"), record(b"b")])
    assert await stored(engine) == {"a", "b"}


@pytest.mark.usefixtures("table")
async def test_a_refused_connection_is_the_world_s_fault_whatever_it_is_called(effects, published, database, engine):
    """PostgreSQL calls a session's setting that it does not know a data exception; no record did it, and none is refused."""
    url = database.database_url.get_secret_value()
    strange = engines.create(settings.Database(database_url=f"{url}?options=-c%20datestyle%3Dnonsense"), application="tests")
    batches = Batches(effects, engine=strange, producer=published, group="g", target="out", refusals="out.dlt")

    with pytest.raises(DBAPIError) as refused:
        await batches.handle([record(b"a"), record(b"b")])
    await strange.dispose()

    assert data_errors.is_data_error(refused.value)
    assert (published.calls, await stored(engine)) == (0, set())


async def test_a_deadlock_is_the_world_s_fault(batches, effects, published, engine):
    """PostgreSQL chose us as its victim: the same batch again, not its records into the dead letters."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql("create table places (id int primary key)")
        await tx.exec_driver_sql("insert into places values (1), (2)")
    ours, theirs = asyncio.Event(), asyncio.Event()

    async def cross(tx, items):
        await rows(tx, "set local deadlock_timeout = '50ms'")
        await rows(tx, "select 1 from places where id = 1 for update")
        ours.set()
        await theirs.wait()
        await rows(tx, "select 1 from places where id = 2 for update")

    async def other():
        async with engine.begin() as tx:
            await rows(tx, "set local deadlock_timeout = '20s'")
            await rows(tx, "select 1 from places where id = 2 for update")
            await ours.wait()
            theirs.set()
            await rows(tx, "select 1 from places where id = 1 for update")

    effects.on_apply = cross
    crossing = asyncio.create_task(other())
    with pytest.raises(engines.TROUBLE) as deadlock:
        await batches.handle([record(b"a")])
    await crossing

    assert engines.sqlstate(deadlock.value) == "40P01"
    assert published.calls == 0


async def test_code_that_came_before_its_migration_is_the_world_s_fault(batches, effects, published, engine):
    """A missing column or table refuses nobody: it rewinds until the migration has run."""

    async def missing(tx, items):
        await rows(tx, "select nobody_added_this from effects")

    effects.on_apply = missing
    with pytest.raises(engines.TROUBLE) as error:
        await batches.handle([record(b"a"), record(b"b")])

    assert error_name(error.value) == "UndefinedColumnError:42703"
    assert published.calls == 0


# One of each class that PostgreSQL itself raises when nothing is wrong with the data:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
WORLD = {
    "53100": "disk full",
    "53200": "out of memory",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "55P03": "lock not available",
    "57014": "statement timeout",
    "25006": "a standby, read only",
    "42501": "a right is missing",
    "42P01": "a table is missing",
    "58030": "disk broken",
    "XX001": "data corrupted",
    "P0001": "a trigger of somebody else",
}


@pytest.mark.parametrize("state", WORLD, ids=WORLD.values())
async def test_what_postgresql_refuses_for_no_fault_of_the_data_rewinds_the_whole_batch(
    batches, effects, published, engine, state
):
    """Nobody is halved, refused or published; when the world is well again, the same batch goes through."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "create function complain() returns trigger language plpgsql as "
            f"$$ begin raise exception 'not now' using errcode = '{state}'; end $$"
        )
        await tx.exec_driver_sql("create trigger complaint before insert on effects execute function complain()")
    tries = []

    async def count(tx, items):
        tries.append(len(items))

    effects.on_apply = count
    with pytest.raises(engines.TROUBLE) as refused:
        await batches.handle([record(b"a"), record(b"b"), record(b"no event")])

    assert (engines.sqlstate(refused.value), tries, published.calls) == (state, [2], 0)
    async with engine.begin() as tx:
        await tx.exec_driver_sql("drop trigger complaint on effects")
    await batches.handle([record(b"a"), record(b"b"), record(b"no event")])
    assert await stored(engine) == {"a", "b"}
    assert refusals(published) == {b"no event": "not_json"}


async def test_a_fold_without_memory_is_the_world_s_fault(batches, effects, published, engine):
    """Nobody's event is refused for it, and nobody is halved."""
    with pytest.raises(MemoryError):
        await batches.handle([record(b"a"), record(b"finds no memory")])

    assert (effects.applied, published.calls, await stored(engine)) == ([], 0, set())


async def test_a_database_that_is_away_is_the_world_s_fault(effects, published, database):
    """Nobody listens there."""
    from shared import settings

    away = engines.create(settings.Database(database_url="postgresql://cb@127.0.0.1:1/none"), application="tests")
    story = Batches(effects, engine=away, producer=published, group="g", target="out", refusals="out.dlt")
    with pytest.raises(OSError):
        await story.handle([record(b"a")])

    assert published.calls == 0


async def test_more_than_twenty_culprits_a_minute_are_our_own_fault(batches, published):
    """The twenty-first is refused no more; neither is anything that came with it."""
    await batches.handle([record(b"unwanted") for _ in range(10)])
    await batches.handle([record(b"unwanted") for _ in range(10)])
    assert len(refusals(published)) == 1
    assert published.calls == 2
    with pytest.raises(TooManyCulprits):
        await batches.handle([record(b"a"), record(b"unwanted"), record(b"no event")])

    assert published.calls == 2


async def test_twenty_one_culprits_in_all_of_a_minute_are_our_own_fault(batches, published, monkeypatch):
    """Also where they come one by one."""
    now = [0.0]
    monkeypatch.setattr("shared.clock.monotonic", lambda: now[0])
    for _ in range(20):
        await batches.handle([record(b"unwanted")])
        now[0] += 2.9
    with pytest.raises(TooManyCulprits):
        await batches.handle([record(b"unwanted")])

    assert published.calls == 20


async def test_what_a_process_that_ends_does_not_refuse_it_notes_nowhere(batches, effects, published):
    """Its fault is ours: an earlier release takes all of them, and nobody is to look for dead letters that there are not."""
    with pytest.raises(TooManyCulprits):
        await batches.handle([record(b"unwanted") for _ in range(21)])

    assert (published.calls, effects.noted) == (0, [])


async def test_a_culprit_that_cannot_be_noted_just_now_is_refused_later(batches, effects, published, monkeypatch):
    """A database that goes away in between is no reason to leave it out: the whole batch comes again."""
    note = effects.record_culprit

    async def away(tx, item, reason):
        monkeypatch.setattr(effects, "record_culprit", note)
        raise ConnectionResetError

    monkeypatch.setattr(effects, "record_culprit", away)
    again = [record(b"a"), record(b"unwanted")]
    with pytest.raises(ConnectionResetError):
        await batches.handle(again)
    assert refusals(published) == {}

    await batches.handle(again)
    assert effects.noted == [(b"unwanted", refusals(published)[b"unwanted"])]


async def test_culprits_that_a_repeated_batch_meets_again_count_once(batches, published):
    """While Kafka takes no dead letter, the same few come back with every try, and that is no fault of ours."""
    again = [record(b"unwanted") for _ in range(10)]
    for _ in range(5):
        await batches.handle(again)

    assert published.calls == 5


async def test_twenty_culprits_a_minute_go_on_for_ever(batches, published, monkeypatch):
    """Few bad events an hour add up to many in the end, and that is no reason to stop."""
    now = [0.0]
    monkeypatch.setattr("shared.clock.monotonic", lambda: now[0])
    for _ in range(100):
        now[0] += 3.1
        await batches.handle([record(b"unwanted")])

    assert published.calls == 100


async def test_events_and_dead_letters_are_acknowledged_before_the_offsets(kafka, engine, table, effects):
    """While Kafka has not acknowledged what a batch tells and refuses, the group's offsets stand still."""
    await make_topics(kafka, THINGS, STRIPE_EVENTS, STRIPE_EVENTS_DLT)
    prefix = kafka.topic_prefix
    await put(kafka, THINGS, b"a", b"unwanted", b"no event")
    seen = []
    async with producer.opened(kafka, client_id="tests") as publisher:
        publish = publisher.publish

        async def watched(records, **options):
            assert await stored(engine) == {"a"}, "the transaction stands before anything is told"
            await publish(records, **options)
            told = [len(await everything(kafka, topic)) for topic in (STRIPE_EVENTS, STRIPE_EVENTS_DLT)]
            seen.append((told, await committed(kafka, THINGS)))

        publisher.publish = watched
        story = Batches(
            effects,
            engine=engine,
            producer=publisher,
            group=f"{prefix}group",
            target=STRIPE_EVENTS.named(prefix),
            refusals=STRIPE_EVENTS_DLT.named(prefix),
        )
        async with member(kafka, story.handle):

            async def done():
                return await committed(kafka, THINGS) == {0: 3}

            await until(done, "offsets are committed")

    assert seen == [([1, 0], {}), ([1, 2], {})]
    letter = next(r for r in await everything(kafka, STRIPE_EVENTS_DLT) if r.value == b"no event")
    assert dict(letter.headers) == {
        "x-error": b"not_json",
        "x-group": f"{prefix}group".encode(),
        "x-origin": f"{THINGS.named(prefix)}/0/2".encode(),
    }
    event = (await everything(kafka, STRIPE_EVENTS))[0]
    assert (event.key, dict(event.headers)["content-type"]) == (b"a", messages.CONTENT_TYPE)


@pytest.mark.parametrize(
    ("value", "packed", "held"),
    [
        (random.Random(1).randbytes(LARGEST), None, (LARGEST, None)),
        (bytes(3 * LARGEST), "gzip", (0, b"%d" % (3 * LARGEST))),
    ],
    ids=["as it is", "unpacks to more than any dead letter holds"],
)
async def test_the_largest_record_that_a_topic_takes_becomes_a_dead_letter_too(
    kafka, engine, table, effects, value, packed, held
):
    """A stranger may write more than we ever do: refused it must still fit, beside the reason, or its batch never ends."""
    await provision.apply(kafka)
    await put(kafka, STRIPE_EVENTS, value, max_request_size=4 * LARGEST, compression_type=packed)
    effects.judge = lambda found: Refused(found, "not_json:" + "x" * 300)
    group = f"{kafka.topic_prefix}group"
    async with producer.opened(kafka, client_id="tests") as publisher:
        story = Batches(
            effects,
            engine=engine,
            producer=publisher,
            group=group,
            target="",
            refusals=STRIPE_EVENTS_DLT.named(kafka.topic_prefix),
        )
        async with member(kafka, story.handle, topic=STRIPE_EVENTS):

            async def done():
                return (await committed(kafka, STRIPE_EVENTS)).get(0) == 1

            await until(done, "offsets are committed")

    [letter] = await everything(kafka, STRIPE_EVENTS_DLT)
    headers = dict(letter.headers)
    assert (len(letter.value), headers.get("x-omitted-bytes")) == held
    assert headers["x-origin"].decode() == f"{kafka.topic_prefix}stripe.events/0/0"


async def test_what_cannot_be_published_is_repeated_with_the_same_batch(kafka, engine, table, effects):
    """Kafka does not take the events: the batch rewinds, and they are published by its repetition."""
    await make_topics(kafka, THINGS, STRIPE_EVENTS)
    await put(kafka, THINGS, b"a")
    name = STRIPE_EVENTS.named(kafka.topic_prefix)
    async with producer.opened(kafka, client_id="tests", warm=[name]) as publisher:
        publish, tries = publisher.publish, []

        async def fails_first(records, **options):
            tries.append(await committed(kafka, THINGS))
            if len(tries) == 1:
                raise batch.errors.KafkaAway("not now")
            await publish(records, **options)

        publisher.publish = fails_first
        story = Batches(effects, engine=engine, producer=publisher, group="g", target=name, refusals="nowhere")
        async with member(kafka, story.handle):

            async def done():
                return await committed(kafka, THINGS) == {0: 1}

            await until(done, "offsets are committed")

    assert tries == [{}, {}]
    assert len(await everything(kafka, STRIPE_EVENTS)) == 1
