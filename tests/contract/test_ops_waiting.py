"""What waits for its payment: shown, offered again, dropped; told after three days, given up after 45."""

import asyncio
import json
import re

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs
from typer.testing import CliRunner

from consumers.payments import housekeeping
from deploy.ops.cli import app
from shared import clock, metrics, topics
from shared.db import attention, waiting
from shared.db.engine import rows
from shared.kafka import provision
from tests.support.builders import Sale, bytes_of, insert_sales, record
from tests.support.database import query
from tests.support.members import process
from tests.support.topics import records_of
from tests.support.waiting import until


@pytest.fixture
def ops(database):
    """Run `cb-ops waiting` on this test's database, and on a cluster when one is given."""

    async def run(*arguments, kafka=None, typed=None):
        environment = {"DATABASE_URL": database.database_url.get_secret_value()}
        if kafka is not None:
            environment["KAFKA_BOOTSTRAP_SERVERS"] = ",".join(kafka.kafka_bootstrap_servers)
            environment["TOPIC_PREFIX"] = kafka.topic_prefix
        return await asyncio.to_thread(CliRunner().invoke, app, ("waiting", *arguments), env=environment, input=typed)

    return run


@pytest.fixture
async def early(payments):
    """A refund and a dispute's charge, each of an intent that nobody knows: the refund came first."""
    sales = [Sale(), Sale()]
    events = [sales[0].refund(), sales[1].refunded()]
    for event in events:
        await payments.handle([record(event, offset=7)])
    return sales, events


def answer(result):
    """What the command said, without what it logged: in this process both are one stream."""
    return "".join(line for line in result.stdout.splitlines(keepends=True) if " [info " not in line)


async def aged(engine, event, hours):
    await query(
        engine, "update waiting_events set seen_at = now() - make_interval(hours => $2) where event_id = $1", event["id"], hours
    )


async def open_matters(engine):
    return await query(engine, "select reason, aggregate, cause from attention order by aggregate")


async def test_what_waits_is_listed_oldest_first_with_its_age_and_state(ops, engine, early):
    """Kind, what it waits for, since when; `unmatched` after 72 hours; never a body."""
    (one, other), (refund, charge) = early
    await aged(engine, charge, hours=73)

    machine, shown = await ops("list", "--json"), await ops("list")

    told = [(each["event_id"], each["event_type"], each["key"], each["state"]) for each in json.loads(machine.stdout)]
    assert told == [
        (charge["id"], "charge.refunded", other.intent_id, "unmatched"),
        (refund["id"], "refund.created", one.intent_id, "waiting"),
    ]
    assert "3 d" in shown.stdout
    assert "amount_refunded" not in shown.stdout + machine.stdout


async def test_nothing_that_waits_is_an_answer(ops):
    """Emptiness is said, and is an empty list for a script."""
    assert (await ops("list")).stdout == "no event waits for its payment\n"
    assert json.loads((await ops("list", "--json")).stdout) == []


async def test_one_is_shown_with_its_body(ops, early):
    """Exactly what Stripe signed, and where it lay."""
    _, (refund, _) = early

    shown, machine = await ops("show", refund["id"]), await ops("show", refund["id"], "--json")

    assert bytes_of(refund).decode() in shown.stdout
    assert "it lay at stripe.events/0/7" in shown.stdout
    assert re.search(r" under \w+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", shown.stdout)
    assert json.loads(machine.stdout)["body"] == bytes_of(refund).decode()


async def test_one_that_does_not_wait_is_one_line_and_a_failure(ops, engine, early, kafka):
    """A slip of the finger shows, offers and drops nothing."""
    _, (refund, _) = early
    results = [
        await ops("show", "evt_x"),
        await ops("replay", refund["id"], "evt_x", kafka=kafka),
        await ops("drop", refund["id"], "evt_x", "--by", "Ada", "--yes"),
    ]

    assert [(result.exit_code, result.stderr) for result in results] == [(1, "no event evt_x waits\n")] * 3
    assert await query(engine, "select count(*) from waiting_events") == [(2,)]


async def test_a_replay_offers_the_exact_bytes_again_and_takes_nothing_away(ops, engine, early, kafka):
    """The same key and bytes on `stripe.events`, marked as a replay; it goes on waiting until somebody took it."""
    await provision.apply(kafka)
    _, (refund, charge) = early

    one, every = await ops("replay", refund["id"], kafka=kafka), await ops("replay", "--all", "--json", kafka=kafka)

    assert answer(one) == f"1 offered again to {kafka.topic_prefix}stripe.events\n"
    assert set(json.loads(answer(every))) == {refund["id"], charge["id"]}
    offered = await records_of(kafka, topics.STRIPE_EVENTS)
    assert sorted((each.key.decode(), each.value) for each in offered) == sorted(
        (event["id"], bytes_of(event)) for event in (refund, refund, charge)
    )
    for each in offered:
        headers = dict(each.headers)
        # What its effects are published with: without these a reader of `payments.events` missed them.
        assert headers.pop("traceparent").startswith(b"00-")
        assert headers == {"content-type": b"application/json", "correlation_id": each.key, "x-replay": b"1"}
    assert await query(engine, "select count(*) from waiting_events") == [(2,)]


@pytest.mark.parametrize("arguments", [(), ("evt_1", "--all")])
async def test_a_replay_must_say_which(ops, arguments):
    """A call that could mean two things does neither."""
    assert (await ops("replay", *arguments)).exit_code == 2


async def test_a_drop_asks_deletes_and_is_kept_in_the_ledger(ops, engine, early):
    """No is no; yes is written down with a name."""
    _, (refund, charge) = early

    refused = await ops("drop", refund["id"], "--by", "Ada", typed="n\n")
    assert refused.exit_code == 1
    assert await query(engine, "select count(*) from waiting_events") == [(2,)]

    dropped = await ops("drop", refund["id"], "--by", "Ada", typed="y\n")
    assert (dropped.exit_code, dropped.stdout.splitlines()[-1]) == (0, f"dropped {refund['id']}")
    assert await query(engine, "select event_id from waiting_events") == [(charge["id"],)]
    told = await query(engine, 'select event_type, reason, "offset" from payment_ledger where decision = $1', "dropped")
    assert told == [("refund.created", "by Ada", 7)]


async def test_a_drop_is_told_even_when_the_ledger_was_emptied(ops, engine, early):
    """Somebody archived the ledger: the drop is still written down."""
    _, (refund, _) = early
    await query(engine, "delete from payment_ledger")
    await ops("drop", refund["id"], "--by", "Ada", "--yes")

    assert await query(engine, "select event_type, decision, reason from payment_ledger") == [("unknown", "dropped", "by Ada")]


async def test_an_event_that_is_being_joined_right_now_is_not_dropped(ops, engine, early):
    """The consumer has read it and will delete it with its commit: the drop waits, finds nothing, and claims nothing."""
    (sale, _), (refund, _) = early
    async with engine.begin() as joining:
        await waiting.lock_keys(joining, [sale.intent_id])
        dropping = asyncio.create_task(ops("drop", refund["id"], "--by", "Ada", "--yes"))
        async with asyncio.timeout(20):
            while await query(engine, "select count(*) from pg_locks where locktype = 'advisory' and not granted") == [(0,)]:
                assert not dropping.done()
        await rows(joining, "delete from waiting_events where event_id = $1", refund["id"])
    result = await dropping

    assert (result.exit_code, result.stderr) == (1, f"no event {refund['id']} waits\n")
    assert await query(engine, "select count(*) from payment_ledger where decision = 'dropped'") == [(0,)]


async def test_a_process_looks_when_it_starts(engine, database, kafka, tmp_path, early):
    """Nobody has to wait for an hour, or to know of it."""
    await provision.apply(kafka)
    (sale, _), (refund, _) = early
    await aged(engine, refund, hours=73)
    async with process("payments", tmp_path, database=database, kafka=kafka) as payments:
        await payments.start()
        await payments.until_said("attention.opened")

        async def gauge():
            return "events_unmatched 1.0" in ((await payments.ask("/metrics"))[1] or "")

        await until(gauge, "the gauge tells of it")
        status, _ = await payments.terminate()

    assert status == 0
    assert await open_matters(engine) == [("unmatched_events", f"stripe:{sale.intent_id}", refund["id"])]


async def test_a_dropped_event_that_comes_again_is_taken_like_any_other(ops, engine, payments, early):
    """Dropping is no ban: Stripe may send it again, and by then its payment may be known."""
    (sale, _), (refund, _) = early
    await ops("drop", refund["id"], "--by", "Ada", "--yes")
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await payments.handle([record(sale.succeeded()), record(refund)])

    assert await query(engine, "select status::text from payments") == [("refunded",)]


async def test_an_event_that_is_given_up_a_second_time_is_gone_as_well(engine, payments, early):
    """It came again, and still nobody knew its payment: one line of the ledger is enough, and stops no later dropping."""
    _, (refund, _) = early
    for _ in range(2):
        await payments.handle([record(refund)])
        async with engine.begin() as tx:
            assert await waiting.drop(tx, [refund["id"]], reason="asked") == [refund["id"]]

    assert await query(engine, "select count(*) from waiting_events where event_id = $1", refund["id"]) == [(0,)]
    assert await query(engine, "select count(*) from payment_ledger where decision = 'dropped'") == [(1,)]


async def test_after_three_days_an_operator_is_told_once_of_each_intent(engine, payments, early):
    """However often the house is looked after, and however many events wait for the same intent."""
    (one, other), (refund, charge) = early
    second = one.refunded()
    await payments.handle([record(second)])
    await aged(engine, refund, hours=80)
    await aged(engine, second, hours=73)
    await aged(engine, charge, hours=71)

    await housekeeping.look(engine, now=clock.now())
    assert REGISTRY.get_sample_value("events_unmatched") == 2
    assert REGISTRY.get_sample_value("attention_open") == 1
    await query(engine, "delete from waiting_events where event_id = $1", refund["id"])
    await housekeeping.look(engine, now=clock.now())

    assert await open_matters(engine) == [("unmatched_events", f"stripe:{one.intent_id}", refund["id"])]
    assert REGISTRY.get_sample_value("events_unmatched") == 1
    assert REGISTRY.get_sample_value("attention_open") == 1
    await query(engine, "update attention set resolved_at = now(), resolved_by = 'Ada'")
    await housekeeping.look(engine, now=clock.now())
    assert REGISTRY.get_sample_value("attention_open") == 0
    assert other.intent_id not in str(await open_matters(engine))


async def test_what_was_given_up_under_an_intent_hides_nothing_that_waits_for_it_now(engine, early):
    """Another matter about the same intent tells nobody of the new event."""
    (sale, _), (refund, _) = early
    about = waiting.aggregate_of(sale.intent_id)
    async with engine.begin() as tx:
        await attention.open_(tx, reason="waiting_event_dropped", aggregate=about, cause="evt_earlier")
    await aged(engine, refund, hours=80)
    await housekeeping.look(engine, now=clock.now())

    assert ("unmatched_events", about, refund["id"]) in await open_matters(engine)


async def test_what_found_its_payment_is_no_longer_unmatched(engine, payments, early):
    """The gauge goes down by itself."""
    (sale, _), (refund, _) = early
    await aged(engine, refund, hours=80)
    await housekeeping.look(engine, now=clock.now())
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await payments.handle([record(sale.succeeded())])
    await housekeeping.look(engine, now=clock.now())

    assert REGISTRY.get_sample_value("events_unmatched") == 0


async def test_after_45_days_an_event_is_given_up_and_told(engine, early, monkeypatch):
    """Its bytes go; the ledger, an operator and a metric keep that they did. However many there are."""
    monkeypatch.setattr(waiting, "DROPPED_AT_ONCE_MAX", 1)
    (one, other), (refund, charge) = early
    await aged(engine, refund, hours=45 * 24 + 1)
    await aged(engine, charge, hours=45 * 24 + 2)
    before = REGISTRY.get_sample_value("events_dropped_total")

    await housekeeping.look(engine, now=clock.now())

    assert await query(engine, "select count(*) from waiting_events") == [(0,)]
    told = await query(engine, "select event_id, reason from payment_ledger where decision = 'dropped' order by id")
    assert told == [(charge["id"], "it waited 45 days"), (refund["id"], "it waited 45 days")]
    given_up = [matter for matter in await open_matters(engine) if matter[0] == "waiting_event_dropped"]
    assert set(given_up) == {
        ("waiting_event_dropped", f"stripe:{one.intent_id}", refund["id"]),
        ("waiting_event_dropped", f"stripe:{other.intent_id}", charge["id"]),
    }
    assert REGISTRY.get_sample_value("events_dropped_total") == before + 2


async def test_a_part_that_fails_keeps_no_other_from_its_turn(engine, early):
    """A right that is missing on one table: how many matters are open is counted all the same, and the fault is heard."""
    async with engine.begin() as tx:
        await attention.open_(tx, reason="waiting_event_dropped", aggregate="stripe:pi_1", cause="evt_1")
        await rows(tx, "alter table waiting_events rename to elsewhere")

    metrics.attention_open.set(0)
    with pytest.raises(ProgrammingError):
        await housekeeping.look(engine, now=clock.now())

    assert REGISTRY.get_sample_value("attention_open") == 1


async def test_only_a_look_that_did_all_of_its_parts_counts_as_one(engine):
    """Else nobody would notice that the other gauges of the look stand still."""
    metrics.housekeeping_success.set(0)
    async with engine.begin() as tx:
        await rows(tx, "alter table waiting_events rename to gone")
    with pytest.raises(ProgrammingError):
        await housekeeping.look(engine, now=clock.now())
    assert REGISTRY.get_sample_value("housekeeping_success_timestamp_seconds") == 0

    async with engine.begin() as tx:
        await rows(tx, "alter table gone rename to waiting_events")
    now = clock.now()
    await housekeeping.look(engine, now=now)
    assert REGISTRY.get_sample_value("housekeeping_success_timestamp_seconds") == now.timestamp()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(ConnectionRefusedError, ("housekeeping.failed", "warning")), (LookupError, ("housekeeping.broke", "error"))],
)
async def test_the_hourly_look_goes_on(engine, monkeypatch, trouble, said):
    """Neither a database that is away for a moment, nor a fault of ours, nor a look that went well must end it for good."""
    looks, done = [], asyncio.Event()

    async def look(_engine, *, now):
        looks.append(1)
        if len(looks) == 1:
            raise trouble
        monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0)
        if len(looks) == 3:
            done.set()

    monkeypatch.setattr(housekeeping, "look", look)
    monkeypatch.setattr(housekeeping, "AGAIN_SECONDS", 0)
    with capture_logs() as lines:
        keeping = asyncio.create_task(housekeeping.keep_house(engine))
        await asyncio.wait_for(done.wait(), 5)
        keeping.cancel()

    assert [(line["event"], line["log_level"]) for line in lines] == [said]
