"""What no webhook brought is found at Stripe and taken like any other event: `cb-ops stripe reconcile` on real parts."""

import asyncio
import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from consumers.payments.handlers import Payments
from deploy.ops import matters, reconciliation, sessions
from deploy.ops.cli import app
from shared import clock, stripe_api, topics
from shared.db.engine import rows
from shared.kafka import provision
from shared.kafka.batch import Batches
from shared.stripe_events import Kind
from tests import builders
from tests.builders import Sale, insert_sales
from tests.fakes import Published
from tests.members import administration, process, put
from tests.sandboxes import SECRET, Webhook, opened, order
from tests.topics import records_of
from tests.waiting import until

JUDGED = """
insert into payment_ledger (event_id, event_type, decision, topic, "partition", "offset")
values ($1, 'payment_intent.succeeded', $2, 'stripe.events', 0, 0)
"""


@pytest.fixture
async def world(tmp_path):
    """A sandbox that was told to send nothing any more."""
    async with opened(tmp_path / "stripe", Webhook(url="http://127.0.0.1:9/payment/webhook")) as world:
        [endpoint] = (await world.client.v1.webhook_endpoints.list_async()).data
        await world.client.v1.webhook_endpoints.update_async(endpoint.id, {"disabled": True})
        yield world


@pytest.fixture
async def ground(kafka):
    """The topics of the map."""
    await provision.apply(kafka)
    return kafka


@pytest.fixture
def settled(monkeypatch):
    """A quarter of an hour has passed since Stripe made its events: none is under way any more."""
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(minutes=15))


@pytest.fixture
def reconcile(world, database, ground):
    """Run `cb-ops stripe reconcile --json` on these; what is not JSON is an operator's line."""

    async def run(*arguments, **changes):
        environment = {
            "DATABASE_URL": database.database_url.get_secret_value(),
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(ground.kafka_bootstrap_servers),
            "TOPIC_PREFIX": ground.topic_prefix,
            "STRIPE_SECRET_KEY": "sk_test_x",
            "STRIPE_WEBHOOK_SECRET": f"{SECRET}_{'t' * 24}",
            "STRIPE_API_BASE": world.url,
        } | changes
        return await asyncio.to_thread(CliRunner().invoke, app, ("stripe", "reconcile", *arguments), env=environment)

    return run


async def sold(world, engine, *sales):
    """Checkout's rows, and customers who paid at Stripe, of which nobody heard."""
    async with engine.begin() as tx:
        await insert_sales(tx, *sales)
    for sale in sales:
        intent = {"metadata": sale.metadata}
        await world.paid(client_reference_id=sale.payment_id, metadata=sale.metadata, payment_intent_data=intent)


async def take(engine, *events):
    """Be the payments consumer."""
    consumer = Batches(Payments(), engine=engine, producer=Published(), group="p", target="payments.events", refusals="dlt")
    await consumer.handle([builders.record(event) for event in events])


async def overdue(world, engine, sale, *, hours=2.0, **wish):
    """Checkout's row, the session that it made, and two hours since that should be over."""
    intent = {"metadata": sale.metadata}
    session = await world.session(
        client_reference_id=sale.payment_id, metadata=sale.metadata, payment_intent_data=intent, **wish
    )
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
        bind = "update payments set stripe_session_id = $2, expires_at = now() - $3::interval where id = $1"
        await rows(tx, bind, sale.payment_id, session.id, timedelta(hours=hours))
    return session


async def lose(world, *kinds):
    """Have Stripe fail to make the next event of each kind."""
    for kind in kinds:
        await world.switch("POST", "losses", {"type": kind})


async def paid_in_silence(world, engine, sale):
    """A customer pays, and Stripe makes no event of it."""
    session = await overdue(world, engine, sale)
    await lose(world, "checkout.session.completed", "payment_intent.succeeded")
    await world.pay(session)
    return session


async def told(engine):
    """Each matter for a person: what it is about, its cause, and who resolved it."""
    async with engine.begin() as tx:
        return [(one.aggregate, one.cause, one.resolved_by) for one in await matters.listed(tx, resolved_too=True)]


async def statuses(engine):
    async with engine.begin() as tx:
        return sorted(status.lower() for (status,) in await rows(tx, "select status::text from payments"))


def answer(result, *, status=0):
    """What a call with --json said; in this process the log shares its stream."""
    assert result.exit_code == status, result.output
    return json.loads(result.stdout[result.stdout.index("{\n") :])


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
    assert "the payments consumer has 1 records of stripe.events before it" in result.stderr
    assert len(await records_of(ground, topics.STRIPE_EVENTS)) == 1


async def test_an_event_that_was_refused_is_not_brought_again_and_again(world, engine, ground, reconcile, settled):
    """It lies with the dead letters, where a person decides; hourly runs would make a dead letter of it every hour."""
    await sold(world, engine, Sale())
    first = answer(await reconcile("--dry-run", "--json"))["missing"][0]["event_id"]
    await put(ground, topics.STRIPE_EVENTS_DLT, b"{}", keys=[first.encode()])

    found = answer(await reconcile("--dry-run", "--json"))

    assert (found["events"], len(found["missing"])) == (2, 1)
    assert found["missing"][0]["event_id"] != first


@pytest.mark.parametrize(("decision", "again"), [("applied", 1), ("quarantined", 0)])
async def test_of_dead_letters_those_that_were_put_back_and_taken_are_told_again(
    world, engine, ground, reconcile, settled, decision, again
):
    """What came of such an event is as lost as what came of any other; one that nobody took stays with the operators."""
    await sold(world, engine, Sale())
    event_id = answer(await reconcile("--dry-run", "--json"))["missing"][0]["event_id"]
    await put(ground, topics.STRIPE_EVENTS_DLT, b"{}", keys=[event_id.encode()])
    async with engine.begin() as tx:
        for line in {"quarantined", decision}:
            await rows(tx, JUDGED, event_id, line)

    assert answer(await reconcile("--again", "--dry-run", "--json"))["again"] == again


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


async def test_a_session_that_is_paid_without_an_event_is_one_matter_until_its_payment_moves(world, engine, ground, reconcile):
    """However often it is seen; and the event that comes in the end, by whatever way, resolves it."""
    sale = Sale()
    session = await paid_in_silence(world, engine, sale)

    first, again = [answer(await reconcile("--json"), status=1)["sessions"] for _ in range(2)]
    standing = await told(engine)
    await take(engine, sale.completed(id=session.id))
    later = answer(await reconcile("--json"))["sessions"]

    stands = {"payment_id": sale.payment_id, "session_id": session.id}
    assert first == again
    assert (first["asked"], first["paid"], first["moved_on"]) == (1, [stands], 0)
    assert standing == [(f"payment:{sale.payment_id}", session.id, None)]
    assert (later["asked"], later["paid"], later["moved_on"]) == (0, [], 1)
    assert await told(engine) == [(f"payment:{sale.payment_id}", session.id, "cb-ops stripe reconcile")]


async def test_a_refund_ends_what_no_event_began(world, engine, ground, reconcile):
    """What docs/operating.md tells an operator to do: its charge names the payment, which is closed."""
    session = await paid_in_silence(world, engine, Sale())
    answer(await reconcile("--json"), status=1)
    shown = await world.client.v1.checkout.sessions.retrieve_async(session.id)
    await world.client.v1.refunds.create_async({"payment_intent": shown.payment_intent})
    listed = json.loads((await world.client.v1.events.list_async()).last_response.body)["data"]
    await take(engine, *(event for event in listed if event["type"] in {*Kind}))

    later = answer(await reconcile("--json"))["sessions"]

    assert await statuses(engine) == ["refunded"]
    assert (later["asked"], later["moved_on"]) == (0, 1)


async def test_a_person_reads_which_sessions_are_paid_and_where_to_look(world, engine, ground, reconcile):
    """And whoever watches the timer sees its status."""
    sale = Sale()
    session = await paid_in_silence(world, engine, sale)

    result = await reconcile()

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"{sale.payment_id}  {session.id}  paid" in lines
    assert lines[-2].startswith("of 1 sessions that should be over and of which no event said so, 1 are paid, 0 expired")
    assert lines[-1] == "each that is paid is a matter for a person: `cb-ops attention list`"


async def test_a_dry_run_opens_no_matter_and_resolves_none(world, engine, ground, reconcile):
    """It tells all the same."""
    sale, moved = Sale(), Sale()
    moved_session = await paid_in_silence(world, engine, moved)
    await reconcile()
    await take(engine, moved.completed(id=moved_session.id))
    await paid_in_silence(world, engine, sale)

    found = answer(await reconcile("--dry-run", "--json"), status=1)["sessions"]

    assert [one["payment_id"] for one in found["paid"]] == [sale.payment_id]
    assert await told(engine) == [(f"payment:{moved.payment_id}", moved_session.id, None)]


async def test_a_session_that_is_not_paid_calls_nobody(world, engine, ground, reconcile):
    """Open, expired, or complete while the customer's bank takes its days: they are counted."""
    await overdue(world, engine, Sale())
    await lose(world, "checkout.session.expired")
    expired = await overdue(world, engine, Sale())
    await world.client.v1.checkout.sessions.expire_async(expired.id)
    await lose(world, "checkout.session.completed", "checkout.session.async_payment_failed", "payment_intent.payment_failed")
    await world.promise(await overdue(world, engine, Sale(currency="EUR"), **order(currency="eur")))

    found = answer(await reconcile("--json"))["sessions"]

    assert (found["asked"], found["paid"], found["expired"], found["under_way"]) == (3, [], 1, 2)
    assert await told(engine) == []


async def test_of_a_session_whose_event_is_on_its_way_nobody_is_told(world, engine, ground, reconcile):
    """Its money came a moment ago, as a delayed method's may at any time."""
    await world.pay(await overdue(world, engine, Sale()))

    found = answer(await reconcile("--json"))

    assert (found["events"], found["sessions"]["asked"], found["sessions"]["under_way"]) == (0, 1, 1)
    assert await told(engine) == []


@pytest.mark.parametrize("choice", [(), ("--dry-run",)])
async def test_a_session_whose_event_this_run_brings_is_left_to_it(world, engine, ground, reconcile, settled, choice):
    """The endpoint was disabled: all of yesterday's payments would be matters, for an hour."""
    await world.pay(await overdue(world, engine, Sale()))

    found = answer(await reconcile("--json", *choice))

    assert (len(found["missing"]), found["sessions"]["asked"]) == (2, 0)
    assert await told(engine) == []


async def test_whose_session_has_just_ended_or_whose_payment_moved_is_not_asked_for(world, engine, ground, reconcile):
    """Their webhooks may come; or one has."""
    await overdue(world, engine, Sale(), hours=0.9)
    for end in ("paid = true", "closed_at = now()"):
        moved = Sale()
        await overdue(world, engine, moved)
        async with engine.begin() as tx:
            await rows(tx, f"update payments set {end} where id = $1", moved.payment_id)

    assert answer(await reconcile("--json"))["sessions"]["asked"] == 0


async def test_what_a_person_has_looked_after_is_left_alone(world, engine, ground, reconcile):
    """Whatever they decided: the run ends well again, and asks no more."""
    await paid_in_silence(world, engine, Sale())
    await reconcile()
    async with engine.begin() as tx:
        [matter] = await matters.listed(tx, resolved_too=False)
        await matters.resolve(tx, matter.id, by="Ada")

    assert answer(await reconcile("--json"))["sessions"]["asked"] == 0


async def test_a_session_that_stripe_does_not_know_ends_the_run_badly_and_hides_no_other(world, engine, ground, reconcile):
    """A key of another mode; what is paid is told all the same."""
    stranger, sale = Sale(), Sale()
    await overdue(world, engine, stranger)
    async with engine.begin() as tx:
        await rows(tx, "update payments set stripe_session_id = 'cs_live_1' where id = $1", stranger.payment_id)
    alone = await reconcile()
    session = await paid_in_silence(world, engine, sale)

    result = await reconcile("--json")

    found = answer(result, status=1)["sessions"]
    assert alone.exit_code == 1
    assert [one["session_id"] for one in found["unknown"]] == ["cs_live_1"]
    assert result.stderr.splitlines()[-1] == (
        f"Stripe at {world.url} does not know 1 of our sessions: is the key of their mode and account?"
    )
    assert await told(engine) == [(f"payment:{sale.payment_id}", session.id, None)]


async def test_what_stripe_said_before_it_fell_silent_is_told(world, engine, ground, reconcile):
    """Of two sessions one is refused, by Stripe's limit of calls: the next run asks for it again."""
    for _ in range(2):
        await paid_in_silence(world, engine, Sale())
    await world.switch("POST", "faults", {"route": "GET /v1/checkout/sessions/{id}", "kind": "rate_limit"})

    result = await reconcile()
    before = await told(engine)
    answer(await reconcile("--json"), status=1)

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"Stripe at {world.url}: rate_limit")
    assert (len(before), len(await told(engine))) == (1, 2)


async def test_more_than_one_run_asks_for_are_left_to_the_next_and_none_for_ever(world, engine, ground, reconcile, monkeypatch):
    """Rows that stay as they are stand in nobody's way: who is asked for is drawn by lot."""
    monkeypatch.setattr(sessions, "ASKED_MAX", 2)
    for _ in range(3):
        await overdue(world, engine, Sale())

    found = answer(await reconcile("--json"))["sessions"]
    lines = (await reconcile()).stdout.splitlines()
    drawn = set()
    async with engine.begin() as tx:
        for _ in range(60):
            drawn |= {row[0] for row in await rows(tx, sessions.OVERDUE, clock.now(), sessions.REASON, 2)}

    assert (found["asked"], found["left"]) == (2, 1)
    assert lines[-1] == "1 more were left to the next run"
    assert len(drawn) == 3
