"""A consumer's real process on the shared broker: how it answers, stops, dies and comes back."""

import asyncio
import json
import time

import pytest

from shared import topics
from shared.db.engine import rows
from shared.messages import payment_states
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.members import committed, everything, make_topics, process, put
from tests.support.waiting import until


@pytest.fixture
async def payments(database, kafka, tmp_path):
    await make_topics(kafka, *topics.ALL)
    async with process("payments", tmp_path, database=database, kafka=kafka) as running:
        yield running


async def ready(running):
    await until(lambda: running.answers("/health/ready", 200), "it is ready")


async def feed(kafka, engine, sales, *, body=Sale.succeeded):
    async with engine.begin() as tx:
        await insert_sales(tx, *sales)
    await put(kafka, topics.STRIPE_EVENTS, *(bytes_of(body(sale)) for sale in sales))


async def test_sigterm_drains_and_exits_0(payments, kafka, engine):
    """What was taken is finished and committed; then the process ends, well within ten seconds."""
    await payments.start()
    await ready(payments)
    sales = [Sale() for _ in range(300)]
    feeding = asyncio.create_task(feed(kafka, engine, sales))
    await payments.until_said("stripe_event.judged")
    status, seconds = await payments.terminate()
    await feeding

    assert (status, seconds < 10) == (0, True)
    assert payments.said("process.stopped")
    offset = (await committed(kafka, topics.STRIPE_EVENTS, "payments")).get(0, 0)
    async with engine.begin() as tx:
        applied = (await rows(tx, "select count(*) from inbox"))[0][0]
    told = {payment_states.decode(r.value).subject for r in await everything(kafka, topics.PAYMENTS_EVENTS)}
    assert applied == offset == len(told) > 0


async def test_a_database_that_is_away_turns_readiness_red_and_green_again_and_a_back_off_ends_at_once(
    payments, kafka, engine, database
):
    """The reason is told, nothing is lost, nobody is restarted; a SIGTERM during the pause ends it within ten seconds."""
    await payments.start()
    await ready(payments)
    async with engine.begin() as tx:
        await tx.exec_driver_sql("alter table payment_ledger rename to away")
    await feed(kafka, engine, [Sale()])
    await until(lambda: payments.answers("/health/ready", 503), "readiness turns red")
    _, body = await payments.ask("/health/ready")
    assert json.loads(body)["reasons"] == [f"{topics.STRIPE_EVENTS.named(kafka.topic_prefix)}: UndefinedTableError:42P01"]
    assert await payments.answers("/health/live", 200)
    assert await everything(kafka, topics.STRIPE_EVENTS_DLT) == []

    async with engine.begin() as tx:
        await tx.exec_driver_sql("alter table away rename to payment_ledger")
    await ready(payments)
    assert len(await everything(kafka, topics.PAYMENTS_EVENTS)) == 1

    async with engine.begin() as tx:
        await tx.exec_driver_sql("alter table payment_ledger rename to away")
    await feed(kafka, engine, [Sale()])
    await until(lambda: payments.answers("/health/ready", 503), "readiness turns red")
    await until(lambda: _failures(payments, 4), "its pauses are seconds long by now")
    status, seconds = await payments.terminate()
    assert (status, seconds < 5) == (0, True)


async def test_a_static_member_that_is_killed_takes_its_partitions_back_at_once(database, kafka, engine, tmp_path):
    """With KAFKA_INSTANCE_ID nobody waits for the session of the dead one to end, 12 s."""
    await make_topics(kafka, *topics.ALL)
    async with process("payments", tmp_path, database=database, kafka=kafka, KAFKA_INSTANCE_ID="pod-0") as running:
        await running.start()
        await ready(running)
        await feed(kafka, engine, [Sale()])
        await running.until_said("stripe_event.judged")
        await running.kill()
        began = time.monotonic()
        await running.start()
        await feed(kafka, engine, [Sale()])
        await until(lambda: len(running.said("stripe_event.judged")) == 2, "the new one works", deadline_seconds=11)

    assert time.monotonic() - began < 11


async def test_a_storm_of_culprits_ends_the_process_and_refuses_nothing_more(payments, kafka, engine):
    """More than twenty a minute is bad code, not bad data: it exits non-zero, and the records stay where they are."""
    evil = lambda sale: sale.declined(code="bad\x00code")  # noqa: E731 - shaped like Sale's own events
    await feed(kafka, engine, [Sale() for _ in range(30)], body=evil)
    await payments.start()

    assert await payments.exit_status() == 1
    [told] = payments.said("process.gave_up")
    assert told["error"] == "TooManyCulprits"
    assert await everything(kafka, topics.STRIPE_EVENTS_DLT) == []
    assert await committed(kafka, topics.STRIPE_EVENTS, "payments") == {}


async def test_a_health_port_that_was_asked_for_and_is_taken_ends_the_process(payments):
    """A port that somebody watches is never silently another one."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), port=payments.health)
    async with server:
        await payments.start()
        assert await payments.exit_status() != 0


async def _failures(running, count):
    _, text = await running.ask("/metrics")
    lines = [line for line in (text or "").splitlines() if line.startswith("kafka_batch_failures_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines) >= count
