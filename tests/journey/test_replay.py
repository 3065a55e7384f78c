"""Dead letters put back by an operator, through the real processes: twice does nothing twice."""

from deploy.dev.mailbox.switches import Fault, Switches
from shared.db.engine import rows
from tests.journey.ops import ops
from tests.journey.pipeline import PROCESSES
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.database import query
from tests.support.waiting import until


async def test_an_event_that_was_quarantined_is_replayed_twice_and_counts_once(pipeline, engine):
    """The operator mends the row and puts the event back, twice: one success, one confirmed booking, two letters."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await pipeline.start(*PROCESSES)
    await pipeline.until_ready(*PROCESSES)
    await pipeline.deliver(bytes_of(sale.succeeded(amount=7400, amount_received=7400)))

    async def dead():
        return "no dead letters" not in await ops(pipeline, "dlt", "list", "stripe.events.dlt")

    await until(dead, "the event is a dead letter", every_seconds=0.2)
    async with engine.begin() as tx:
        await rows(tx, "update payments set amount_minor = 7400")

    for _ in range(2):
        assert "1 went back to" in await ops(pipeline, "dlt", "replay", "stripe.events.dlt", "--all", "--by", "Ada")

    async def both_judged():
        decisions = {decision for (decision,) in await query(engine, "select decision from payment_ledger")}
        return {"applied", "duplicate"} <= decisions

    await until(both_judged, "both replays are judged")

    async def all_sent():
        return await query(engine, "select state, count(*) from letters group by state") == [("sent", 2)]

    await until(all_sent, "both letters are sent")
    assert await query(engine, "select status::text, version from payments") == [("succeeded", 1)]
    assert await query(engine, "select count(*) from payment_ledger where decision = 'applied'") == [(1,)]
    assert await query(engine, "select status::text from bookings") == [("confirmed",)]
    assert await query(engine, "select version from booking_versions") == [(1,)]
    assert len(pipeline.mailbox.letters) == 2


async def test_a_letter_that_was_given_up_is_replayed_twice_and_sent_once(pipeline, engine):
    """The mailbox was refused for good; after the operator's replay the person has exactly one letter."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
        await rows(tx, "update users set email = 'ada@example.com' where role = 'client'")
    await pipeline.mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient="ada@example.com"),)))
    await pipeline.start(*PROCESSES)
    await pipeline.until_ready(*PROCESSES)
    await pipeline.deliver(bytes_of(sale.succeeded()))

    async def given_up():
        states = await query(engine, "select state from letters order by state")
        return states == [("dead",), ("sent",)]

    await until(given_up, "one letter is dead and the other sent")
    await pipeline.mailbox.switch(Switches())

    for _ in range(2):
        assert "1 went back to" in await ops(pipeline, "dlt", "replay", "email.dlt", "--all", "--by", "Ada")

    async def second_left_alone():
        return '"reason":"already_sent"' in pipeline.logged("email")

    await until(second_left_alone, "the second replay is judged")

    async def all_sent():
        return await query(engine, "select state from letters") == [("sent",), ("sent",)]

    await until(all_sent, "both letters are sent")
    assert sorted(letter.subject[:11] for letter in pipeline.mailbox.letters) == ["Booking Con", "New Booking"]
