"""The calendar file opens as an event: read by a library that is not the one which wrote it."""

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime

import ics
import pytest

from consumers.email.compose import Letter, compose
from shared.letters.templates import Templates, released
from tests.pictures import FACTS

TEMPLATES = Templates(released())
AT = datetime(2027, 2, 20, 8, 0, 30, 123_456, tzinfo=UTC)


def parts(**changes):
    letter = compose(replace(FACTS, **changes), TEMPLATES, sender="noreply@culturebridge.example", at=AT)
    assert isinstance(letter, Letter)
    return [*email.message_from_bytes(letter.content, policy=email.policy.default).iter_attachments()]


def calendar(**changes):
    [part] = parts(**changes)
    return ics.Calendar(part.get_content())


def lines(**changes):
    """The properties of the file by their names, unfolded."""
    [part] = parts(**changes)
    unfolded = part.get_content().replace("\r\n", "\n").replace("\n ", "")
    return dict(line.replace(";", ":", 1).split(":", 1) for line in unfolded.splitlines() if line and "BEGIN" not in line)


def test_a_confirmation_asks_the_calendar_to_hold_the_session():
    """One event with its time in UTC, its length, with whom, and the booking's id."""
    opened = calendar()
    [event] = opened.events

    assert opened.method == "REQUEST"
    assert event.uid == FACTS.booking_id
    assert event.begin.datetime == FACTS.session_at
    assert event.duration.total_seconds() == 90 * 60
    assert event.name == "Coaching session with Charles Babbage"
    assert FACTS.booking_id in event.description
    assert event.status == "CONFIRMED"
    assert event.organizer.email == "noreply@culturebridge.example"
    assert [attendee.email for attendee in event.attendees] == ["ada@example.org"]


def test_a_cancellation_takes_the_same_event_away():
    """The same UID, the next SEQUENCE, METHOD:CANCEL and STATUS:CANCELLED (RFC 5546, section 3.2.5)."""
    opened = calendar(kind="cancellation", cancelled=True)
    [event] = opened.events

    assert (opened.method, event.status) == ("CANCEL", "CANCELLED")
    assert event.uid == next(iter(calendar().events)).uid
    assert (int(lines()["SEQUENCE"]), int(lines(kind="cancellation")["SEQUENCE"])) == (0, 1)
    assert lines()["ORGANIZER"] == lines(kind="cancellation")["ORGANIZER"]


@pytest.mark.parametrize("kind", ["confirmation", "cancellation"])
def test_the_coachs_file_names_the_client_and_nobodys_address_but_their_own(kind):
    """Both have the same event, and neither learns the other's address."""
    [event] = calendar(kind=kind, role="coach").events

    assert event.uid == FACTS.booking_id
    assert event.name == "Coaching session with Ada Lovelace"
    assert [attendee.email for attendee in event.attendees] == ["charles@example.org"]


def test_the_part_says_what_it_is():
    """text/calendar with the method of the file itself, as an attachment with a name."""
    for kind, method in (("confirmation", "REQUEST"), ("cancellation", "CANCEL")):
        [part] = parts(kind=kind)
        assert part.get_content_type() == "text/calendar"
        assert dict(part["Content-Type"].params) == {"charset": "utf-8", "method": method, "name": "session.ics"}
        assert (part.get_content_disposition(), part.get_filename()) == ("attachment", "session.ics")


@pytest.mark.parametrize("kind", ["refund", "payment_failed"])
def test_letters_about_money_carry_no_file(kind):
    """They change nothing in a calendar."""
    assert parts(kind=kind, refunded_minor=2000) == []


def test_an_address_of_odd_characters_stays_one_in_a_uri():
    """What a URI gives a meaning to is encoded (RFC 6068): `?` would begin a header of the mail to come."""
    client = replace(FACTS.client, address="a+b?cc=eve/50%@example.org")

    assert lines(client=client)["ATTENDEE"].endswith(":mailto:a+b%3Fcc%3Deve%2F50%25@example.org")


@pytest.mark.parametrize("name", ["A\r\nATTENDEE:mailto:eve@evil.example", "A;B,C:D\\n\\;E", "Ж" * 79, None])
def test_no_name_breaks_out_of_its_line(name):
    """Line breaks, separators and folding: one event with the same properties, the name as its words."""
    coach = replace(FACTS.coach, first_name=name, last_name=None)
    [event] = calendar(coach=coach).events

    assert lines(coach=coach).keys() == lines().keys()
    assert len(event.attendees) == 1
    assert event.name.startswith("Coaching session")
    [part] = parts(coach=coach)
    assert all(len(line.encode()) <= 75 for line in part.get_content().replace("\r\n", "\n").split("\n"))
