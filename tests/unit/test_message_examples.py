"""The examples of docs/topics are what our code writes and reads: decoded by its decoders, made by its decisions."""

import json
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import pytest

from consumers.bookings.handlers import Bookings
from consumers.email import kinds, tickets
from consumers.email.handlers import LetterIntake
from consumers.payments.handlers import Payments
from consumers.payments.translate import Event, translate
from shared import messages, topics
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming
from tests.support.story import EXAMPLES, compact, example, told

DECODERS = {
    topics.PAYMENTS_EVENTS.name: messages.payment_states,
    topics.BOOKINGS_EVENTS.name: messages.booking_changes,
    **{topic.name: messages.letter_tickets for topic in topics.EMAIL_LADDER},
    topics.EMAIL_DLT.name: messages.letter_tickets,
}
ALL = sorted(path.stem for path in EXAMPLES.glob("*.json"))
ENVELOPES = [name for name in ALL if name.startswith(("payments.events.v1", "bookings.events.v1"))]
TYPED = [name for name in ALL if name.partition(".v1")[0] in DECODERS]
FROM_STRIPE = [name for name in ALL if name.startswith("stripe.events.v1")]
REFUSED = {
    "stripe.events.dlt.v1": (Payments().judge, "wrong_shape:amount_received is missing"),
    "payments.events.dlt.v1": (
        Bookings().judge,
        "wrong_shape:Object missing required field `version` - at `$.data`",
    ),
    "bookings.events.dlt.v1": (LetterIntake(kinds.of_booking, sender_domain="culturebridge.example").judge, "bad_currency"),
}


def incoming(name):
    return Incoming("topic", 0, 0, b"key", example(name))


def test_every_topic_has_an_example_and_every_example_a_topic():
    """`<topic>.v1[.variant].json`, and nothing else lies there."""
    assert {name.partition(".v1")[0] for name in ALL} == {topic.name for topic in topics.ALL}
    assert {*TYPED, *FROM_STRIPE, *REFUSED} == set(ALL)


@pytest.mark.parametrize("name", TYPED)
def test_an_example_survives_decoding_and_encoding(name):
    """Read by the reader's own decoder and written again, not a byte differs but for the indentation."""
    value = example(name)

    decoded = DECODERS[name.partition(".v1")[0]].decode(value)

    assert msgspec.json.encode(decoded) == compact(value)


@pytest.mark.parametrize("name", sorted(told()))
def test_an_example_is_what_our_own_code_says(name):
    """Stripe's example goes in, the payment, its booking and its letters answer: the files are one story, and true."""
    assert compact(example(name)) == told()[name]


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_is_a_cloudevent(name):
    """CloudEvents 1.0, sections "Required" and "Optional attributes"; read as any other language would."""
    event = json.loads(example(name))
    room = name.partition(".")[0]

    assert event["specversion"] == "1.0"
    assert str(UUID(event["id"])) == event["id"]
    assert event["source"] == f"/culturebridge/{room}"
    assert event["type"].startswith(f"com.culturebridge.{room.removesuffix('s')}.")
    assert event["datacontenttype"] == "application/json"
    assert urlsplit(event["dataschema"]).scheme == "urn"
    assert event["dataschema"] == f"urn:culturebridge:{room}.events:v1"
    assert event["subject"] == event["data"][f"{room.removesuffix('s')}_id"]
    assert event["time"].endswith("Z")
    assert datetime.fromisoformat(event["time"]).tzinfo == UTC


@pytest.mark.parametrize("name", FROM_STRIPE)
def test_an_event_of_stripe_is_understood(name):
    """The reader of `stripe.events` takes it, with a fact and the payment that it is about."""
    event = translate(example(name))

    assert isinstance(event, Event)
    assert event.fact is not None
    assert str(event.payment_id) == json.loads(example(name))["data"]["object"]["metadata"]["payment_id"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_dead_letter_is_refused_for_the_reason_on_its_page(name):
    """What lies in a dead-letter topic is what its source's reader refuses."""
    judge, reason = REFUSED[name]

    refused = judge(incoming(name))

    assert isinstance(refused, Refused)
    assert refused.reason == reason


def test_a_ticket_is_read_by_the_step_that_gets_it():
    """Both letters' tickets are understood, whoever puts them there."""
    for name in (*(f"{topic.name}.v1" for topic in topics.EMAIL_LADDER), "email.dlt.v1"):
        assert not isinstance(tickets.read(incoming(name)), Refused)


def test_readers_ignore_what_a_newer_writer_adds():
    """An unknown field, in the envelope or in the data, stops nobody."""
    for name in TYPED:
        value = json.loads(example(name))
        for holder in filter(None, (value, value.get("data"))):
            holder["added_later"] = {"by": ["a newer writer"]}

        decoded = DECODERS[name.partition(".v1")[0]].decode(json.dumps(value).encode())

        assert msgspec.json.encode(decoded) == compact(example(name))
