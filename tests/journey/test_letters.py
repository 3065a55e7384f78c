"""The email process on real Kafka, PostgreSQL and SMTP: killed, stopped and left without a mail server."""

import asyncio
from contextlib import suppress

import aiohttp
import pytest

from deploy.dev.mailbox import Fault, Switches
from shared import topics
from shared.db.engine import rows
from shared.kafka import producer
from shared.kafka.records import Record
from tests.support.builders import Sale, confirmed, insert_sales
from tests.support.waiting import until


@pytest.fixture
async def publish(kafka, pipeline):
    """Publish `booking.confirmed` of these sales, acknowledged."""

    async def publish_confirmed(*sales):
        topic = topics.BOOKINGS_EVENTS.named(kafka.topic_prefix)
        await opened.publish([Record(topic, sale.booking_id.encode(), confirmed(sale)) for sale in sales])

    async with producer.opened(kafka, client_id="tests") as opened:
        yield publish_confirmed


async def confirmed_sales(engine, count):
    sales = [Sale() for _ in range(count)]
    async with engine.begin() as tx:
        await insert_sales(tx, *sales, booking_status="confirmed")
    return sales


async def letters(engine, columns="state"):
    async with engine.begin() as tx:
        return [tuple(row) for row in await rows(tx, f"select {columns} from letters order by role")]


async def readiness(pipeline):
    async with pipeline.http.get(f"http://127.0.0.1:{pipeline._health['email']}/health/ready") as answer:
        return answer.status, " ".join((await answer.json())["reasons"])


async def all_sent(engine, count):
    async def sent():
        return [state for (state,) in await letters(engine)] == ["sent"] * count

    await until(sent, f"{count} letters are sent", every_seconds=0.1)


async def test_killed_between_data_and_its_record(pipeline, publish, engine):
    """The letters are sent again once the leases run out: the same Message-IDs, and both possible duplicates counted."""
    await pipeline.start("email")
    await pipeline.until_ready("email")
    await pipeline.mailbox.switch(Switches(delay_seconds=0.5))
    await publish(*await confirmed_sales(engine, 1))
    await pipeline.mailbox.wait_for_letters(2, deadline_seconds=30)
    await pipeline.kill("email")
    assert await letters(engine) == [("sending",), ("sending",)]

    await pipeline.mailbox.switch(Switches())
    await pipeline.start("email")

    async def gave_way():
        return "letter.deferred" in pipeline.logged("email")

    await until(gave_way, "the letters under lease went to the 1 s step")
    async with engine.begin() as tx:
        await rows(tx, "update letters set lease_until = now()")
    await all_sent(engine, 2)

    assert await letters(engine, "attempts, possible_duplicates") == [(1, 1), (1, 1)]
    ids = [letter.message_id for letter in pipeline.mailbox.letters]
    assert (len(ids), len(set(ids))) == (4, 2)
    assert await pipeline.stop("email") == [0]


async def test_a_mail_server_that_is_away_loses_nothing(pipeline, publish, engine):
    """Readiness says why; nothing is counted or buried; when the server is back everybody is told, once, by itself."""
    await pipeline.mailbox.switch(Switches(listening=False))
    await pipeline.start("email")
    await pipeline.until_ready("email")
    await publish(*await confirmed_sales(engine, 20))

    async def red():
        with suppress(aiohttp.ClientError):
            status, reasons = await readiness(pipeline)
            return status == 503 and "mail server: it cannot be reached" in reasons
        return False

    await until(red, "readiness tells that the mail server is away", every_seconds=0.1)
    await pipeline.kill("email")
    async with engine.begin() as tx:
        await rows(tx, "update letters set lease_until = now() where state = 'sending'")
    await pipeline.start("email")
    await until(red, "the process that came after tells it too", every_seconds=0.1)
    await pipeline.mailbox.switch(Switches())
    await all_sent(engine, 40)

    assert len({letter.to[0] for letter in pipeline.mailbox.letters}) == len(pipeline.mailbox.letters) == 40
    assert set(await letters(engine, "attempts, possible_duplicates")) <= {(1, 0), (1, 1)}

    async def green():
        return (await readiness(pipeline))[0] == 200

    await until(green, "readiness is green again")


async def test_a_stop_while_the_mail_server_is_away_is_quick_and_loses_nothing(pipeline, publish, engine):
    """SIGTERM in the middle of the back-off ends with 0, and the next process sends."""
    await pipeline.mailbox.switch(Switches(faults=(Fault(at="connect", what=421),)))
    await pipeline.start("email")
    await pipeline.until_ready("email")
    await publish(*await confirmed_sales(engine, 2))

    async def tripped():
        return "mail_server.away" in pipeline.logged("email")

    await until(tripped, "the breaker tripped")
    async with asyncio.timeout(10):
        assert await pipeline.stop("email") == [0]

    await pipeline.mailbox.switch(Switches())
    await pipeline.start("email")
    await all_sent(engine, 4)
    assert len(pipeline.mailbox.letters) == 4
