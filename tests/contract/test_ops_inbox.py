"""`cb-ops inbox prune`: whole months go, the coming ones are made, and what is redelivered afterwards changes nothing."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from consumers.payments import housekeeping
from deploy.ops import pruning
from deploy.ops.cli import app
from ingress import checkout_rules, store
from shared import clock
from shared.db import inbox
from shared.db.engine import rows
from shared.db.inbox import Entry
from tests.support.builders import Sale, insert_sales, record
from tests.support.database import query, waits_for_a_lock
from tests.support.waiting import until

NOW = datetime(2027, 6, 20, 12, 0, tzinfo=UTC)  # the day 45 days ago lies in May
MONTHS = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'inbox'::regclass"


async def months(engine):
    return sorted(name for (name,) in await query(engine, MONTHS))


async def prune(engine, now=NOW):
    return await pruning.prune(engine, now, progress=lambda _done, _total: None)


async def remember(engine, *moments, consumer="payments"):
    """Write an entry of an event that was created at each of these moments; return the events' ids."""
    entries = [Entry(f"evt_{uuid.uuid4().hex}", moment, "stripe.events", 0, 1, (b"told",)) for moment in moments]
    async with engine.begin() as tx:
        await inbox.write_unlocked(tx, consumer, entries)
    return [entry.event_id for entry in entries]


@pytest.fixture
async def born_in_april(engine):
    """An inbox whose first partition is April's: it was migrated then."""
    for (name,) in await query(engine, MONTHS):
        if name != "inbox_default":
            await query(engine, f"drop table {name}")
    async with engine.begin() as tx:
        await inbox.make_partitions(tx, datetime(2027, 4, 10, tzinfo=UTC))


MONTHLY = {
    "making": lambda tx: inbox.make_partitions(tx, NOW),
    "dropping": lambda tx: inbox.drop_partition(tx, "inbox_2027_04"),
}


@pytest.mark.usefixtures("born_in_april")
@pytest.mark.parametrize("change", MONTHLY.values(), ids=MONTHLY)
async def test_whoever_changes_the_months_gives_up_before_the_consumers_feel_it(engine, monkeypatch, change):
    """Every consumer would queue behind its wish for the whole inbox: it is run again another time."""
    monkeypatch.setattr(inbox, "LOCK_TIMEOUT", inbox.LOCK_TIMEOUT.replace("5s", "10ms"))
    async with engine.begin() as consumer, asyncio.timeout(5):
        await rows(consumer, "lock table inbox in access exclusive mode")
        async with engine.begin() as tx:
            with pytest.raises(Exception, match="due to lock timeout"):
                await change(tx)
            await tx.rollback()


async def test_months_that_nobody_can_send_again_are_dropped_and_three_are_made(engine, born_in_april):
    """April ended more than 45 days ago, May did not; September is three months ahead."""
    old, kept = datetime(2027, 4, 30, 23, 59, 59, tzinfo=UTC), datetime(2027, 5, 1, tzinfo=UTC)
    _, remembered = await remember(engine, old, kept)

    pruned = await prune(engine)

    assert (pruned.dropped, pruned.made) == (("inbox_2027_04",), ("inbox_2027_08", "inbox_2027_09"))
    assert pruned.kept_since == datetime(2027, 5, 1, tzinfo=UTC)
    assert await months(engine) == [
        "inbox_2027_05",
        "inbox_2027_06",
        "inbox_2027_07",
        "inbox_2027_08",
        "inbox_2027_09",
        "inbox_default",
    ]
    assert await query(engine, "select event_id from inbox") == [(remembered,)]


async def test_a_second_run_changes_nothing(engine, born_in_april):
    """By a timer, by hand, or both."""
    await prune(engine)
    again = await prune(engine)

    assert (again.dropped, again.made, again.deleted) == ((), (), 0)


async def test_two_runs_at_once_are_one_after_the_other(engine, born_in_april, monkeypatch):
    """By the timers of two hosts, or by `cb-ops migrate` beside one: both are done, and each month is made once."""
    monkeypatch.setattr(inbox, "LOCK_TIMEOUT", inbox.LOCK_TIMEOUT.replace("5s", "60s"))
    async with engine.begin() as consumer:
        await rows(consumer, "select 1 from inbox limit 1")
        both = [asyncio.create_task(prune(engine)) for _ in range(2)]
        await until(waits_for_a_lock(engine, count=2), "both wait for the inbox")
    first, second = await asyncio.gather(*both)

    assert sorted((first.made, second.made)) == [(), ("inbox_2027_08", "inbox_2027_09")]


async def test_the_default_partition_is_emptied_of_what_is_outdated_alone(engine, born_in_april, monkeypatch):
    """Of every consumer, however many portions it takes; what is younger stays."""
    monkeypatch.setattr(pruning, "DELETED_AT_ONCE_MAX", 2)
    old, young = datetime(2027, 2, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    await remember(engine, *[old] * 5, young)
    await remember(engine, *[old] * 3, young, consumer="bookings")

    pruned = await prune(engine)

    assert pruned.deleted == 8
    assert await query(engine, "select consumer, count(*) from inbox_default group by 1 order by 1") == [
        ("bookings", 1),
        ("payments", 1),
    ]


async def test_months_are_made_however_long_the_default_partition_takes_to_read(engine, born_in_april):
    """PostgreSQL reads all of it for each: stopped on its way it would never come to an end, nor any pruning."""
    async with engine.begin() as tx:
        assert await rows(tx, "show statement_timeout") == [("30s",)]
        await rows(tx, "set local transaction_timeout = '30s'")
        made = await inbox.make_partitions(tx, NOW)

        assert await rows(tx, "show statement_timeout") == [("0",)]
        assert await rows(tx, "show transaction_timeout") == [("0",)]
    assert made
    assert await query(engine, "show statement_timeout") == [("30s",)]


async def test_a_month_that_the_default_partition_already_serves_stays_there(engine, born_in_april):
    """Nobody pruned for months: an event of August's first moment came first, and making its partition would fail."""
    await remember(engine, datetime(2027, 8, 1, tzinfo=UTC))

    pruned = await prune(engine)

    assert pruned.made == ("inbox_2027_09",)
    assert await query(engine, "select count(*) from inbox") == [(1,)]


async def test_the_months_ahead_go_on_over_the_turn_of_the_year(engine, born_in_april):
    """In December as in June."""
    async with engine.begin() as tx:
        made = await inbox.make_partitions(tx, datetime(2027, 12, 31, 23, 59, tzinfo=UTC))

    assert made == ["inbox_2027_12", "inbox_2028_01", "inbox_2028_02", "inbox_2028_03"]


async def test_an_event_that_is_redelivered_after_its_entry_was_pruned_changes_nothing(
    engine, sale, published, payments, bookings
):
    """The fold knows the facts without the inbox: no new version, no new message, at both consumers."""
    said = [
        record(event) for event in (sale.refund(100), sale.declined(), sale.succeeded(), sale.completed(), sale.refunded(7500))
    ]
    for one in said:
        await payments.handle([one])
    told = [record(sent.value, topic="payments.events", key=sent.key) for sent in published.records]
    for one in told:
        await bookings.handle([one])
    before = await standing(engine)
    counted = len(published.records)

    # Long after: every entry's month is over, and so are their 45 days.
    await prune(engine, clock.now() + timedelta(days=365))
    assert await query(engine, "select count(*) from inbox") == [(0,)]
    for one in said:
        await payments.handle([one])
    for one in told:
        await bookings.handle([one])

    assert await standing(engine) == before
    assert len(published.records) == counted


async def standing(engine):
    """Every row that an event may change, but for what tells when it was looked at."""
    return [
        await query(engine, sql)
        for sql in (
            "select to_jsonb(p) - 'updated_at' from payments p",
            "select to_jsonb(b) - 'updated_at' from bookings b",
            "select * from refunds order by id",
            "select * from payment_intents order by 1",
            "select * from booking_payments",
            "select * from booking_versions",
            "select reason, aggregate, cause from attention order by 1, 2, 3",
        )
    ]


async def test_the_command_says_what_it_did(database, engine):
    """And a script gets the same as values."""
    old = clock.now() - timedelta(days=100)
    await remember(engine, old, old)
    environment = {"DATABASE_URL": database.database_url.get_secret_value()}

    shown = await asyncio.to_thread(CliRunner().invoke, app, ("inbox", "prune"), env=environment)
    machine = await asyncio.to_thread(CliRunner().invoke, app, ("inbox", "prune", "--json"), env=environment)

    assert "deleted  2 entries of the DEFAULT partition" in shown.stdout
    assert f"events are remembered since {inbox.kept_since(clock.now()):%Y-%m-%d}" in shown.stdout
    assert json.loads(machine.stdout)["deleted"] == 0


async def test_an_operators_clock_that_is_ahead_forgets_nothing(database, engine, monkeypatch):
    """What is old is for the database to say, whose clock all processes share."""
    await remember(engine, clock.now())
    now, before = clock.now(), await months(engine)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(days=365))
    environment = {"DATABASE_URL": database.database_url.get_secret_value()}

    ran = await asyncio.to_thread(CliRunner().invoke, app, ("inbox", "prune"), env=environment)

    assert ran.exit_code == 0, ran.stderr
    assert await query(engine, "select count(*) from inbox") == [(1,)]
    assert set(before) <= set(await months(engine))


@pytest.mark.parametrize(
    ("day", "told"),
    [(20, []), (23, [("inbox_not_pruned", "inbox", "inbox_2027_04")])],
    ids=["due for five days", "due for a week"],
)
async def test_who_forgets_to_prune_is_told_once(engine, born_in_april, day, told):
    """April could have gone on 15 June: a week later it is put before an operator."""
    for _ in range(2):
        await housekeeping.look(engine, now=datetime(2027, 6, day, tzinfo=UTC))

    assert await query(engine, "select reason, aggregate, cause from attention") == told


async def test_a_checkout_that_came_to_nothing_keeps_neither_name_nor_address(engine):
    """Stripe was away and its customer left: nothing resumes it after its end, so that nobody needs whom it was for."""
    left, open_ = Sale(), Sale()
    ends = {left.payment_id: NOW - timedelta(seconds=1), open_.payment_id: NOW + timedelta(minutes=31)}
    async with engine.begin() as tx:
        await insert_sales(tx, left, open_)
        for sale in (left, open_):
            booking = await store.load_booking(tx, uuid.UUID(sale.booking_id))
            params = checkout_rules.CheckoutParams(booking.id, "https://app.example/paid", "https://app.example/left", None)
            request = checkout_rules.stored_request(params, booking, sale.amount_minor, ends[sale.payment_id])
            asked = "update payments set checkout_request = $2, expires_at = $3, stripe_session_id = null where id = $1"
            await rows(tx, asked, sale.payment_id, json.dumps(request), ends[sale.payment_id])

    first, second = await prune(engine), await prune(engine)

    assert (first.forgotten, second.forgotten) == (1, 0)
    words = dict(await query(engine, "select id::text, payments::text from payments"))
    assert "https://app.example/paid" in words[left.payment_id]
    assert "Grace" not in words[left.payment_id]
    assert "@example.com" not in words[left.payment_id]
    assert "Grace Hopper" in words[open_.payment_id]
    assert f"client-{open_.client_id}@example.com" in words[open_.payment_id]
