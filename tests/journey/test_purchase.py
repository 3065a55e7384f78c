"""Webhook in, letters out, on the four real processes."""

from shared.db.engine import rows
from tests.journey.pipeline import PROCESSES
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.waiting import until


async def test_a_paid_webhook_becomes_a_confirmed_booking_and_two_letters(pipeline, engine):
    """The whole walk: one event in, the payment succeeded, the booking confirmed, client and coach told once."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await pipeline.start(*PROCESSES)
    await pipeline.until_ready(*PROCESSES)

    await pipeline.deliver(bytes_of(sale.succeeded()))
    await pipeline.deliver(bytes_of(sale.completed()))
    letters = await pipeline.mailbox.wait_for_letters(2, deadline_seconds=30)

    assert sorted(letter.subject for letter in letters) == [
        "Booking Confirmed: Session with Grace Hopper",
        "New Booking: Session with Ada Lovelace",
    ]
    async with engine.begin() as tx:
        found = await rows(
            tx,
            "select p.status::text, b.status::text, b.payment_id = p.id from payments p join bookings b on b.id = p.booking_id",
        )
    assert [tuple(row) for row in found] == [("succeeded", "confirmed", True)]
    assert await pipeline.stop(*PROCESSES) == [0, 0, 0, 0]


async def test_the_door_takes_webhooks_while_the_consumers_are_away(pipeline, engine):
    """Kafka is the memory between the processes: whoever comes later finds everything."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await pipeline.start("ingress")
    await pipeline.until_ready("ingress")
    await pipeline.deliver(bytes_of(sale.succeeded()))

    await pipeline.start("payments", "bookings", "email")

    async def confirmed():
        async with engine.begin() as tx:
            return (await rows(tx, "select status::text from bookings"))[0][0] == "confirmed"

    await until(confirmed, "the booking is confirmed")
    await pipeline.mailbox.wait_for_letters(2, deadline_seconds=30)
