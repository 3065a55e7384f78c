"""What no webhook brought is found at Stripe and taken like any other event: `cb-ops stripe reconcile` on real parts."""

import json
from datetime import timedelta

import pytest

from consumers.payments import housekeeping
from deploy.ops import insights, reconciliation
from deploy.ops.commands.stripe_account import DAYS_MAX, SETTLED
from shared import clock, stripe_api, topics
from shared.db import reconciled
from shared.db.engine import rows
from shared.kafka import provision
from shared.stripe_events import Kind
from tests.support.builders import Sale
from tests.support.database import query
from tests.support.members import administration, process, put
from tests.support.reconciling import answer, sold, statuses, take
from tests.support.topics import records_of
from tests.support.waiting import until

JUDGED = """
insert into payment_ledger (event_id, event_type, decision, topic, "partition", "offset")
values ($1, 'payment_intent.succeeded', $2, 'stripe.events', 0, 0)
"""


async def test_what_no_webhook_brought_is_paid_after_one_run(world, engine, database, ground, reconcile, settled, tmp_path):
    """Somebody disabled the endpoint: one run heals it, page by page, and the next finds nothing."""
    sales = [Sale() for _ in range(3)]
    await sold(world, engine, *sales)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stripe_api, "EVENTS_AT_ONCE_MAX", 2)
        found = answer(await reconcile("--json"))

    assert (found["events"], len(found["missing"]), found["published"]) == (6, 6, True)
    assert sorted(one["event_type"] for one in found["missing"]) == [
        *["checkout.session.completed"] * 3,
        *["payment_intent.succeeded"] * 3,
    ]
    records = await records_of(ground, topics.STRIPE_EVENTS)
    assert {record.key.decode() for record in records} == {one["event_id"] for one in found["missing"]}
    for record in records:
        assert dict(record.headers)["x-origin"] == b"reconciliation"
        kept = await world.client.v1.events.retrieve_async(record.key.decode())
        assert json.loads(record.value) == json.loads(kept.last_response.body)

    async def succeeded():
        return await statuses(engine) == ["succeeded"] * 3

    async with process("payments", tmp_path, database=database, kafka=ground) as payments:
        await payments.start()
        await until(succeeded, "all are paid")
        again = answer(await reconcile("--json"))
        assert "stripe_events_reconciled_total 6.0" in (await payments.ask("/metrics"))[1]

    assert (again["events"], again["missing"]) == (6, [])
    assert len(await records_of(ground, topics.STRIPE_EVENTS)) == 6


async def test_what_kafka_lost_before_anybody_heard_it_is_told_again(
    world, engine, database, ground, reconcile, settled, tmp_path
):
    """The payment is paid, and its message went with the brokers' disks: nothing else would ever confirm the booking."""
    await sold(world, engine, Sale())
    await reconcile()

    async def told():
        return {record.value for record in await records_of(ground, topics.PAYMENTS_EVENTS)}

    async with process("payments", tmp_path, database=database, kafka=ground) as payments:
        await payments.start()
        taken = answer(await reconcile("--json"))  # it waits until both events were taken, and told
        before = await told()
        async with administration(ground) as admin:
            lost = topics.PAYMENTS_EVENTS.named(ground.topic_prefix)
            await admin.delete_topics([lost])

            async def is_gone():
                return lost not in await admin.list_topics()

            await until(is_gone, "the topic is gone")
        await provision.apply(ground)
        again = answer(await reconcile("--again", "--json"))

        async def told_again():
            return await told() == before

        await until(told_again, "it is told again, in the same words")

    # The sandbox's session is another than the row's: one of the two events was refused, and stays with the dead letters.
    refused = {record.key.decode() for record in await records_of(ground, topics.STRIPE_EVENTS_DLT)}
    assert (taken["events"], taken["missing"], taken["again"]) == (2, [], 0)
    assert (again["missing"], again["again"], len(refused)) == ([], 1, 1)
    assert before


async def test_a_dry_run_only_tells(world, engine, ground, reconcile, settled):
    """Nothing is published, and each missing event stands on a line of its own."""
    await sold(world, engine, Sale())

    result = await reconcile("--dry-run")

    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if "stripe_event.missing" not in line]
    assert [line.split()[1] for line in lines[1:3]] == ["payment_intent.succeeded", "checkout.session.completed"]
    assert lines[-2].endswith("2 never came")
    assert lines[-1] == "2 would go to stripe.events"
    assert await records_of(ground, topics.STRIPE_EVENTS) == []


async def test_an_event_that_is_under_way_is_left_alone(world, engine, ground, reconcile):
    """A customer pays while this runs: their webhook will come, and nobody is alarmed."""
    await sold(world, engine, Sale())

    found = answer(await reconcile("--json"))

    assert (found["events"], found["missing"]) == (0, [])
    assert await records_of(ground, topics.STRIPE_EVENTS) == []


async def test_nothing_is_told_while_the_consumer_is_behind(world, engine, ground, reconcile, settled, monkeypatch):
    """What lies in Kafka untaken would look as if it were missing: the run ends, and says whom to look at."""
    await sold(world, engine, Sale())
    await put(ground, topics.STRIPE_EVENTS, b"{}", keys=[b"evt_1"])
    monkeypatch.setattr(reconciliation, "TAKING_SECONDS_MAX", 0.0)

    result = await reconcile()

    assert result.exit_code == 1
    assert "the payments consumer has yet to take 1 records of stripe.events" in result.stderr
    assert len(await records_of(ground, topics.STRIPE_EVENTS)) == 1


async def test_an_event_that_was_refused_is_not_brought_again_and_again(world, engine, ground, reconcile, settled):
    """It lies with the dead letters, where a person decides; hourly runs would make a dead letter of it every hour."""
    await sold(world, engine, Sale())
    first = answer(await reconcile("--dry-run", "--json"))["missing"][0]["event_id"]
    await put(ground, topics.STRIPE_EVENTS_DLT, b"{}", keys=[first.encode()])

    found = answer(await reconcile("--dry-run", "--json"))

    assert (found["events"], len(found["missing"])) == (2, 1)
    assert found["missing"][0]["event_id"] != first


async def test_an_event_that_is_refused_while_the_consumer_catches_up_is_not_brought_again(
    world, engine, ground, reconcile, settled, monkeypatch
):
    """It lay in Kafka when this began: the dead letters are looked at once all of that was taken."""
    await sold(world, engine, Sale())
    first = answer(await reconcile("--dry-run", "--json"))["missing"][0]["event_id"]
    until_taken = insights.until_taken

    async def refused_meanwhile(kafka, topic, *, seconds_max):
        await put(ground, topics.STRIPE_EVENTS_DLT, b"{}", keys=[first.encode()])
        return await until_taken(kafka, topic, seconds_max=seconds_max)

    monkeypatch.setattr(insights, "until_taken", refused_meanwhile)
    found = answer(await reconcile("--dry-run", "--json"))

    assert first not in {one["event_id"] for one in found["missing"]}


@pytest.mark.parametrize(("decision", "again"), [("applied", 1), ("unchanged", 1), ("unhandled", 1), ("quarantined", 0)])
async def test_of_dead_letters_those_that_were_put_back_and_taken_are_told_again(
    world, engine, ground, reconcile, settled, decision, again, monkeypatch
):
    """What came of such an event is as lost as what came of any other; one that nobody took stays with the operators."""
    monkeypatch.setattr(stripe_api, "EVENTS_AT_ONCE_MAX", 1)  # the other one, a page of its own, is missing
    await sold(world, engine, Sale())
    event_id = answer(await reconcile("--dry-run", "--json"))["missing"][0]["event_id"]
    await put(ground, topics.STRIPE_EVENTS_DLT, b"{}", keys=[event_id.encode()])
    async with engine.begin() as tx:
        for line in {"quarantined", decision}:
            await rows(tx, JUDGED, event_id, line)

    told = await reconcile("--again", "--dry-run", "--json")

    assert answer(told)["again"] == again
    assert told.stdout.count("stripe_event.missing") == 1


async def test_an_event_that_waits_for_its_payment_was_taken(world, engine, ground, reconcile, settled):
    """It has a place of its own, whence its payment frees it: whoever brought it hourly would count it hourly as missed."""
    stray = Sale()
    intent = {"metadata": stray.metadata}
    await world.paid(client_reference_id=stray.payment_id, metadata=stray.metadata, payment_intent_data=intent)
    listed = json.loads((await world.client.v1.events.list_async()).last_response.body)["data"]
    ours = [event for event in listed if event["type"] in {*Kind}]
    await take(engine, *ours)

    found = answer(await reconcile("--json"))

    assert (found["events"], found["missing"]) == (2, [])


async def test_it_looks_back_as_far_as_it_is_told(world, engine, ground, reconcile, monkeypatch):
    """What is two days old is not among yesterday's events, and among those of the last four days."""
    await sold(world, engine, Sale())
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(days=2))

    looked = [answer(await reconcile("--dry-run", "--json", *days))["events"] for days in (("--days", "1"), ())]

    assert looked == [0, 2]


async def test_another_accounts_events_are_not_ours(world, engine, ground, reconcile, settled):
    """A key that was mixed up would bring another business's payments."""
    await sold(world, engine, Sale())

    result = await reconcile(STRIPE_ACCOUNT_ID="acct_other")

    assert result.exit_code == 1
    assert "STRIPE_ACCOUNT_ID is acct_other, but the key belongs to acct_1" in result.stderr
    assert await records_of(ground, topics.STRIPE_EVENTS) == []


async def test_who_is_silent_is_named(reconcile, ground):
    """Stripe, PostgreSQL or Kafka away: one line, which of them and where; never another one's name."""
    stripe = await reconcile(STRIPE_API_BASE="http://127.0.0.1:9")
    kafka = await reconcile(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")

    assert (stripe.exit_code, stripe.stderr) == (1, "Stripe at http://127.0.0.1:9: APIConnectionError\n")
    assert kafka.exit_code == 1
    assert kafka.stderr.splitlines()[-1].startswith("Kafka at 127.0.0.1:9: ")


async def test_a_silent_database_is_named(world, engine, ground, reconcile, settled):
    """Once there is anything to look for."""
    await sold(world, engine, Sale())

    result = await reconcile(DATABASE_URL="postgresql://nobody:x@127.0.0.1:9/nothing")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("PostgreSQL at 127.0.0.1:9/nothing: ")


async def test_a_timer_that_stopped_is_told_after_a_day_and_settled_by_the_next_run(
    world, engine, reconcile, settled, monkeypatch
):
    """Once for each pause; who only looks does not count as having brought anything."""
    matters = "select reason, aggregate, resolved_by from attention order by opened_at"

    async def looked_at_after(**time):
        await housekeeping.look(engine, now=clock.now() + timedelta(**time))
        return [tuple(row) for row in await query(engine, matters)]

    answer(await reconcile("--dry-run", "--json"))
    assert await looked_at_after(days=9) == []
    answer(await reconcile("--json"))
    assert await looked_at_after(hours=23) == []
    [told] = await looked_at_after(hours=25)
    assert (told[0], told[2]) == ("stripe_not_reconciled", None)
    assert told[1].startswith("stripe:acct_")
    answer(await reconcile("--dry-run", "--json"))
    assert await looked_at_after(hours=49) == [told]
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(hours=49))
    answer(await reconcile("--json"))
    assert await looked_at_after(hours=1) == [(*told[:2], "cb-ops stripe reconcile")]
    assert len(await looked_at_after(hours=25)) == 2


async def test_a_run_that_goes_back_further_takes_nothing_back(engine):
    """Two runs at once, or one of a machine whose clock is behind: until when all was compared only grows."""
    late = clock.now()
    for end in (late, late - timedelta(days=3)):
        async with engine.begin() as tx:
            await reconciled.record(tx, "acct_1", since=end - timedelta(days=4), until=end)

    assert await query(engine, "select account_id, compared_until from stripe_reconciliations") == [("acct_1", late)]


@pytest.mark.parametrize(
    ("pause_days", "days_back", "settled_by"), [(5, 4, None), (5, 7, reconciled.BY), (5, 30, reconciled.BY), (29, 28, None)]
)
async def test_a_run_that_leaves_a_gap_settles_nothing(engine, pause_days, days_back, settled_by):
    """Five days nobody compared: one that goes back for four would leave a day that nobody ever looks at again."""
    then, now = clock.now() - timedelta(days=pause_days), clock.now()
    async with engine.begin() as tx:
        await reconciled.record(tx, "acct_1", since=then - timedelta(days=4), until=then)
        await reconciled.report_overdue(tx, now=now)
        await reconciled.record(tx, "acct_1", since=now - timedelta(days=days_back), until=now)

    assert await query(engine, "select resolved_by from attention") == [(settled_by,)]
    assert await query(engine, "select compared_until from stripe_reconciliations") == [(now if settled_by else then,)]


async def test_a_gap_that_stripe_itself_has_forgotten_is_held_against_nobody(engine):
    """Whoever went back for all that Stripe keeps has seen all that there is to see, but for what is still under way."""
    then, now = clock.now() - timedelta(days=90), clock.now()
    async with engine.begin() as tx:
        await reconciled.record(tx, "acct_1", since=then - timedelta(days=4), until=then)
        await reconciled.record(tx, "acct_1", since=now - timedelta(days=DAYS_MAX), until=now - SETTLED)

    assert await query(engine, "select compared_until from stripe_reconciliations") == [(now - SETTLED,)]
