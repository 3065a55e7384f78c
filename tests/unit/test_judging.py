"""Whatever bytes lie in a topic, a reader says what they are or why not: one bad record never stops the others."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.bookings.handlers import Bookings
from consumers.email import kinds, tickets
from consumers.email.handlers import LetterIntake
from consumers.payments.handlers import Payments
from shared.kafka import dead_letters
from shared.kafka.dead_letters import Refused
from shared.kafka.record_sizes import bytes_max
from shared.kafka.records import Incoming, Record, incoming
from shared.kafka.retry import Step
from tests.support.story import EXAMPLES

READERS = {
    "payments": Payments().judge,
    "bookings": Bookings().judge,
    "email": LetterIntake(kinds.of_booking, sender_domain="culturebridge.example").judge,
    "email-payments": LetterIntake(kinds.of_payment, sender_domain="culturebridge.example").judge,
    "email-retry-1s": tickets.read,
}
DEEP = 200_000  # deeper than any recursion limit
NO_UTF8 = b'{"id":"\xff","type":"\xff","kind":"\xff","role":"\xff","subject":"\xff"}'
BODIES = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.json"))]


def record(value):
    return Incoming("topic", 0, 0, b"key", value)


@pytest.mark.parametrize("judge", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "value",
    [b"", b"\xff\xfe", NO_UTF8, b"null", b"[]", b"{}", b'{"z":' + b"[" * DEEP, b"[" * DEEP],
    ids=["empty", "no utf-8", "strings of no utf-8", "null", "list", "object", "deep", "deep list"],
)
def test_what_is_no_message_is_refused_with_a_reason(judge, value):
    """Not raised: an exception would bring the same batch back for ever."""
    refused = judge(record(value))

    assert isinstance(refused, Refused)
    assert refused.code.isidentifier()


@pytest.mark.parametrize("judge", READERS.values(), ids=READERS)
def test_a_string_of_no_utf8_never_raises(judge):
    """In whichever field of a real message."""
    for body in BODIES:
        for at in (string.start(1) for string in re.finditer(rb'": "(\w)', body)):
            judge(record(body[:at] + b"\xff" + body[at + 1 :]))


@pytest.mark.parametrize("judge", READERS.values(), ids=READERS)
def test_a_tombstone_of_a_foreign_writer_is_refused_as_empty_bytes_are(judge):
    """Neither key nor value, and a header of a name alone: Kafka has them all."""
    lay = SimpleNamespace(topic="topic", partition=0, offset=7, key=None, value=None, headers=[("x-due-ms", None)], timestamp=1)
    known = incoming(lay)

    assert known == Incoming("topic", 0, 7, b"", b"", (("x-due-ms", b""),), 1)
    assert isinstance(judge(known), Refused)


@pytest.mark.parametrize("judge", READERS.values(), ids=READERS)
@given(body=st.sampled_from(BODIES), cut=st.integers(0, 2000), put=st.binary(max_size=8), length=st.integers(0, 40))
def test_a_damaged_message_never_raises(judge, body, cut, put, length):
    """Any stretch of a real message replaced by anything."""
    judge(record(body[:cut] + put + body[cut + length :]))


@pytest.mark.parametrize(
    ("header", "counted"), [(b"7", 7), (b"9" * 5_000, None), (b"-1", None), ("²".encode(), None), (b"", None)]
)
def test_attempts_that_nobody_can_have_made_were_not_counted(header, counted):
    """Python reads no number of five thousand digits: an error of it would bring the same batch back for ever."""
    assert dead_letters.attempts(Incoming("topic", 0, 0, b"", b"", (("x-attempt", header),))) == counted


@pytest.mark.parametrize("header", ["correlation_id", "traceparent", "x-origin"])
def test_what_follows_a_record_does_not_grow_with_a_strangers_header(header):
    """A topic takes a megabyte: a trace of that size, and an event beside it, would be refused with its batch for ever."""
    ticket = (EXAMPLES / "email.retry.1s.v1.json").read_bytes()
    brought = Incoming("topic", 0, 7, b"key", ticket, ((header, b"x" * 1_048_576),))
    due = tickets.read(brought)

    follows = [
        Record("topic", b"key", b"event", brought.travelling()),
        tickets.later(due, Step("next", 1), now_ms=1),
        tickets.dead_letter(due, topic="email.dlt", group="email", attempts=6, reason="smtp_permanent"),
    ]

    assert all(bytes_max(one) < 2_000 for one in follows)
    assert brought.first_place == b"topic/0/7"


def test_a_ticket_of_endless_words_is_none():
    """It is written again at each step, and has to fit there."""
    ticket = (EXAMPLES / "email.retry.1s.v1.json").read_bytes()
    long = ticket.replace(b"confirmation", b"c" * 1_048_576)

    assert (long == ticket, isinstance(tickets.read(record(long)), Refused)) == (False, True)
