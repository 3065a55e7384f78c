"""What the consumers of payments and bookings let several transactions handle at once."""

from consumers.bookings.handlers import Bookings
from consumers.payments.handlers import Payments
from shared.kafka.parts import divide
from tests.support.builders import Sale, payment_event, record
from tests.support.database import query

AT_ONCE = "select current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int / (2 * 12)"


def parts_of(consumer, records):
    items = [consumer.judge(one) for one in records]
    return [{item.record.offset for item in part} for part in divide(items, consumer.keys, count=len(items))]


def numbered(events):
    return [record(event, offset=number) for number, event in enumerate(events)]


def test_events_that_name_one_payment_in_any_way_are_handled_together():
    """By its intent alone, by its charge alone, by its metadata; and a copy with its original."""
    sale, other = Sale(), Sale()
    refund = sale.refund(100, charge="ch_3backlog")
    dispute = sale.dispute(payment_intent=None, charge="ch_3backlog")
    events = [dispute, other.succeeded(), sale.succeeded(), refund, sale.expired(), refund]

    assert sorted(parts_of(Payments(), numbered(events)), key=len) == [{1}, {0, 2, 3, 4, 5}]


def test_a_copy_of_an_event_that_names_nothing_is_handled_with_it():
    unhandled = Sale().succeeded() | {"type": "customer.created"}

    assert parts_of(Payments(), numbered([unhandled, unhandled])) == [{0, 1}]


def test_messages_of_one_booking_are_handled_together():
    sale, other = Sale(), Sale()
    values = [payment_event(one, "payment.succeeded") for one in (sale, other, sale)]
    records = [record(value, topic="payments.events", offset=number) for number, value in enumerate(values)]

    assert sorted(parts_of(Bookings(), records), key=len) == [{1}, {0, 2}]


async def test_as_many_events_are_under_way_as_the_table_of_locks_has_room_for(engine):
    """Two locks for each, in as many processes as there are partitions; and never fewer than one transaction takes."""
    [(at_once,)] = await query(engine, AT_ONCE)

    assert await Payments().items_at_once_max(engine) == max(at_once, 500)
