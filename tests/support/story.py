"""The story that the examples of messages tell: what our own code makes of them, one after the other.

`python -m tests.support.story` writes the files that follow from others; the tests hold that they are what the code says.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from consumers.bookings import decide as bookings
from consumers.bookings.handlers import Bookings
from consumers.email import kinds
from consumers.payments.decide import EventRecord, LoadedState, decide
from consumers.payments.translate import translate
from shared import messages, topics
from shared.domain.booking import Booking, Status
from shared.domain.payment import Payment
from shared.kafka.records import Incoming

EXAMPLES = Path(__file__).parents[1] / "examples" / "messages"
PAYMENT_ID = "019c1f6e-7a51-7c2e-9b7d-3f1f0a6d2c11"
BOOKING_ID = "6b1f7e52-41f7-4c0f-a9a5-0d5f3c1f8e21"
AT = datetime(2027, 2, 3, 9, 30, 0, 250_000, UTC)
BEFORE = Payment(PAYMENT_ID, BOOKING_ID, 7500, "USD", session_id="cs_test_a1CultureBridge")


def example(name):
    """The bytes of one example, as they would lie in Kafka."""
    return (EXAMPLES / f"{name}.json").read_bytes()


def compact(pretty):
    """JSON as our encoder writes it; the files are indented for a reader."""
    return msgspec.json.format(pretty, indent=-1)


def pretty(value):
    return msgspec.json.format(value, indent=2) + b"\n"


def payments_say(*names):
    """The last event of `payments.events` that these events of Stripe cause, one after the other."""
    known, emitted = BEFORE, []
    for number, name in enumerate(names):
        body = example(name)
        record = Incoming("stripe.events", 0, number, json.loads(body)["id"].encode(), body)
        decided = decide(
            LoadedState({PAYMENT_ID: known}, {"pi_3CultureBridge": PAYMENT_ID}, {}, {}),
            [EventRecord(translate(body), record)],
            at=AT,
        )
        known, emitted = decided.payments[PAYMENT_ID], decided.emitted
    return emitted[0].event


def bookings_say(*payment_events, status=Status.PENDING):
    """The last event of `bookings.events` that these events of payments cause, for a booking that stands so."""
    loaded = bookings.LoadedState({BOOKING_ID: Booking(BOOKING_ID, status, None)}, {}, {}, {})
    records = (Incoming("payments.events", 0, n, PAYMENT_ID.encode(), value) for n, value in enumerate(payment_events))
    return bookings.decide(loaded, map(Bookings().judge, records), at=AT).emitted[-1].event


def tickets_say(booking_event):
    """The two letters' tickets that a confirmed booking makes due."""
    means = kinds.of_booking(booking_event, sender_domain="culturebridge.example")
    return [messages.ticket(letter.ticket) for letter in means.due]


def told():
    """Every example that follows from another: its name, and the bytes that our code makes."""
    succeeded = payments_say("stripe.events.v1")
    refunded = payments_say("stripe.events.v1", "stripe.events.v1.charge_refunded")
    confirmed = bookings_say(succeeded)
    client, coach = tickets_say(confirmed)
    return {
        "payments.events.v1": succeeded,
        "payments.events.v1.failed": payments_say("stripe.events.v1.payment_failed"),
        "payments.events.v1.refunded": refunded,
        "bookings.events.v1": confirmed,
        "bookings.events.v1.cancelled": bookings_say(succeeded, refunded),
        "bookings.events.v1.payment_conflict": bookings_say(succeeded, status=Status.CANCELLED),
        **{f"{topic.name}.v1": client for topic in topics.EMAIL_LADDER},
        "email.dlt.v1": coach,
    }


def main():
    for name, value in told().items():
        (EXAMPLES / f"{name}.json").write_bytes(pretty(value))


if __name__ == "__main__":
    main()
