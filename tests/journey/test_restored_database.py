"""PostgreSQL comes back from a backup, as it was an hour ago, while Kafka's groups are past all that came since."""

from collections import Counter
from datetime import timedelta

import asyncpg
import pytest

from deploy.ops.commands.stripe_account import SETTLED
from shared import clock
from shared.db import migrate
from shared.db.engine import rows
from tests.journey.ops import ops
from tests.journey.pipeline import PROCESSES
from tests.support.builders import Sale, insert_sales
from tests.support.database import query
from tests.support.sandboxes import SECRET, Webhook, opened
from tests.support.waiting import until

STANDING = """
select b.id::text, b.status::text, count(l.id) filter (where l.state = 'sent')
from bookings b left join letters l on l.booking_id = b.id group by b.id order by b.id::text
"""


@pytest.fixture
async def database(empty_database):
    """One that nobody else has a session in, so that it can be copied, and put back."""
    await migrate.upgrade(empty_database)
    return empty_database


@pytest.fixture
async def world(tmp_path, pipeline):
    """A sandbox that tells the pipeline."""
    async with opened(tmp_path / "stripe", Webhook(url=pipeline.webhook_url)) as world:
        pipeline.settings |= {"STRIPE_WEBHOOK_SECRET": SECRET, "STRIPE_API_BASE": world.url}
        yield world


class Backup:
    """A copy of the test's database; nobody may be connected while it is taken or put back."""

    def __init__(self, database):
        self._server, _, self._name = database.database_url.get_secret_value().replace("+asyncpg", "").rpartition("/")

    async def take(self):
        await self._run(f"create database {self._name}_backup template {self._name}")

    async def put_back(self):
        await self._run(f"drop database {self._name}", f"alter database {self._name}_backup rename to {self._name}")

    async def _run(self, *statements):
        connection = await asyncpg.connect(f"{self._server}/postgres")
        for statement in statements:
            await connection.execute(statement)
        await connection.close()


async def checked_out(world, engine, sale):
    """Checkout's row, and its open session at Stripe."""
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    intent = {"metadata": sale.metadata}
    session = await world.session(client_reference_id=sale.payment_id, metadata=sale.metadata, payment_intent_data=intent)
    async with engine.begin() as tx:
        await rows(tx, "update payments set stripe_session_id = $1 where id = $2", session.id, sale.payment_id)
    return session


async def refunded(world, session):
    paid = await world.client.v1.checkout.sessions.retrieve_async(session.id)
    await world.client.v1.refunds.create_async({"payment_intent": paid.payment_intent})


async def test_what_came_after_the_backup_is_brought_again(pipeline, engine, database, world, monkeypatch):
    """Payments, refunds, bookings and letters of that hour: one run, nothing by hand but the rows that checkout had written.

    Who was written to after the backup has the same letter again, under the same Message-ID, since the ledger of letters has
    forgotten it; who was written to before has none.
    """
    before, between, after, lost = (Sale() for _ in range(4))
    sales = {"before": before, "between": between, "after": after, "lost": lost}

    async def stand(**expected):
        async def as_expected():
            return await query(engine, STANDING) == sorted((sales[name].booking_id, *how) for name, how in expected.items())

        await until(as_expected, f"bookings and letters stand as {expected}")

    async def both_wait():
        return len(await query(engine, "select event_id from waiting_events")) == 2

    backup = Backup(database)
    await pipeline.start(*PROCESSES)
    await pipeline.until_ready(*PROCESSES)
    sessions = {sale: await checked_out(world, engine, sale) for sale in (before, between, after)}
    await world.pay(sessions[before])
    await stand(before=("confirmed", 2), between=("pending", 0), after=("pending", 0))
    await pipeline.stop("bookings")
    await world.pay(sessions[between])

    async def is_paid():
        return await query(engine, "select status::text from payments where id = $1", between.payment_id) == [("succeeded",)]

    await until(is_paid, "the payment succeeded, and its booking has not heard of it")
    await pipeline.stop(*PROCESSES)
    await engine.dispose()
    await backup.take()

    await pipeline.start(*PROCESSES)
    sessions[lost] = await checked_out(world, engine, lost)
    await pipeline.until_ready(*PROCESSES)
    for sale in (after, lost):
        await world.pay(sessions[sale])
    await refunded(world, sessions[before])
    ended = {"before": ("cancelled", 4), "between": ("confirmed", 2), "after": ("confirmed", 2), "lost": ("confirmed", 2)}
    await stand(**ended)
    sent = Counter(letter.message_id for letter in pipeline.mailbox.letters)
    await pipeline.stop(*PROCESSES)
    await engine.dispose()
    await backup.put_back()

    await pipeline.start(*PROCESSES)
    await pipeline.until_ready(*PROCESSES)
    now = clock.now
    with monkeypatch.context() as later:
        later.setattr(clock, "now", lambda: now() + SETTLED + timedelta(minutes=1))
        await ops(pipeline, "stripe", "reconcile", "--days", "1", "--again")
    await stand(**{name: how for name, how in ended.items() if name != "lost"})
    await until(both_wait, "what was paid without a row waits")
    async with engine.begin() as tx:
        await insert_sales(tx, lost)
        await rows(tx, "update payments set stripe_session_id = $1 where id = $2", sessions[lost].id, lost.payment_id)
    await ops(pipeline, "waiting", "replay", "--all")
    await stand(**ended)

    assert await query(engine, "select sum(amount_minor), sum(amount_refunded_minor) from payments") == [(4 * 7500, 7500)]
    assert await query(engine, "select 1 from attention where resolved_at is null") == []
    again = Counter(letter.message_id for letter in pipeline.mailbox.letters)
    assert (again.keys(), sorted(again.values())) == (sent.keys(), [1] * 2 + [2] * 8)
