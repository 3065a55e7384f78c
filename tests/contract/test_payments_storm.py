"""Consumers that race: a minute's storm, and one death that swaps two versions."""

import uuid

import pytest

from consumers.bookings.handlers import Bookings
from consumers.email import kinds
from consumers.email.handlers import LetterIntake
from consumers.payments.handlers import Payments
from shared.db.engine import rows
from shared.errors import KafkaAway
from shared.kafka.batch import Batches
from shared.kafka.records import Incoming
from shared.messages import booking_changes, payment_states
from tests.proof import storm
from tests.support.builders import Sale, insert_sales, record
from tests.support.fakes import Published

STORM_SECONDS = 60


class Mortal(Published):
    """A producer whose process dies before it publishes, the first time."""

    died = False

    async def publish(self, records, *, deadline_seconds=5.0):
        if not self.died:
            self.died = True
            raise KafkaAway("killed between commit and publish")
        await super().publish(records)


def story(consumer, engine, producer, target):
    return Batches(consumer, engine=engine, producer=producer, group="tests", target=target, refusals="dlt")


def incoming(records):
    return [Incoming(r.topic, 0, number, r.key, r.value, r.headers) for number, r in enumerate(records)]


async def test_a_storm_over_the_same_payments_ends_without_a_deadlock_and_every_version_is_told_once(database):
    """Copies, disorder, deaths before publishing: versions rise one by one, each under the same bytes, bookings follow."""
    report = await storm.run(database, seconds=STORM_SECONDS)

    assert report.seconds >= STORM_SECONDS
    assert min(report.deaths, report.messages - report.payments) > 0


@pytest.mark.parametrize("together", [False, True], ids=["batch by batch", "in one batch"])
async def test_a_death_between_commit_and_publish_that_swaps_two_versions_still_confirms_and_tells_both(engine, together):
    """Paid by the one consumer, which dies; disputed by another, whose version 2 is told first; then version 1 comes."""
    sale, dying, other, followed, told = Sale(), Mortal(), Published(), Published(), Published()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    paid, disputed = record(sale.succeeded()), record(sale.dispute())
    with pytest.raises(KafkaAway):
        await story(Payments(), engine, dying, "payments.events").handle([paid])
    await story(Payments(), engine, other, "payments.events").handle([disputed])
    await story(Payments(), engine, dying, "payments.events").handle([paid])
    swapped = other.records + dying.records
    versions = [payment_states.decode(r.value).data for r in swapped]
    assert [(data.version, data.paid, data.dispute_open) for data in versions] == [(2, True, True), (1, True, False)]

    bookings = story(Bookings(), engine, followed, "bookings.events")
    for batch in [incoming(swapped)] if together else [[one] for one in incoming(swapped)]:
        await bookings.handle(batch)
    await story(LetterIntake(kinds.of_booking, sender_domain="culturebridge.example"), engine, told, "none").handle(
        incoming(followed.records)
    )

    assert [change.name for change in followed.events("bookings.events", booking_changes)] == ["booking.confirmed"]
    async with engine.begin() as tx:
        booking = await rows(tx, "select status::text, payment_id from bookings")
        payment = await rows(tx, "select status::text, version from payments")
        remembered = await rows(tx, "select version from booking_payments")
        letters = await rows(tx, "select kind, role, state from letters order by role")
    assert booking == [("confirmed", uuid.UUID(sale.payment_id))]
    assert (payment, remembered) == ([("succeeded", 2)], [(2,)])
    assert letters == [("confirmation", "client", "queued"), ("confirmation", "coach", "queued")]
