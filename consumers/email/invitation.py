"""A booking -> the calendar file in its letter; pure.

A confirmation asks the calendar to hold the session, a cancellation to let it go: the same UID, the next SEQUENCE (RFC 5546,
sections 3.2.2 and 3.2.5). Each person's file names that person alone. Times are in UTC, which every calendar shows in its
owner's zone. Next: mime.py.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from icalendar import Calendar, Event, Parameters, vCalAddress, vDatetime, vInt, vText

from consumers.email.kinds import Kind
from consumers.email.mime import CalendarFile

PRODUCT = vText("-//CultureBridge//Payments//EN")
ORGANIZER_NAME = "CultureBridge"
# Which letters carry a file: METHOD, SEQUENCE and STATUS of it.
METHODS = {Kind.CONFIRMATION: ("REQUEST", 0, "CONFIRMED"), Kind.CANCELLATION: ("CANCEL", 1, "CANCELLED")}


@dataclass(frozen=True, slots=True)
class Session:
    """What a calendar is told; `at` is aware UTC, the two addresses are those of the letter."""

    booking_id: str
    at: datetime
    duration_minutes: int
    summary: str
    attendee: str
    organizer: str


def calendar_file(kind: str, session: Session, *, written_at: datetime) -> CalendarFile | None:
    """Return the file that a letter of this kind carries, None for one that carries none."""
    found = METHODS.get(Kind(kind))
    if found is None:
        return None
    method, sequence, status = found
    event = Event()
    event["UID"] = vText(f"{session.booking_id}@{session.organizer.rpartition('@')[2]}")
    event["SEQUENCE"] = vInt(sequence)
    event["DTSTAMP"] = vDatetime(written_at.replace(microsecond=0))
    event["DTSTART"] = vDatetime(session.at)
    event["DTEND"] = vDatetime(session.at + timedelta(minutes=session.duration_minutes))
    event["SUMMARY"] = vText(session.summary)
    event["DESCRIPTION"] = vText(f"Booking ID: {session.booking_id}")
    event["STATUS"] = vText(status)
    event["ORGANIZER"] = vCalAddress(f"mailto:{session.organizer}", params=Parameters({"CN": ORGANIZER_NAME}))
    accepted = Parameters({"ROLE": "REQ-PARTICIPANT", "PARTSTAT": "ACCEPTED", "RSVP": "FALSE"})
    event["ATTENDEE"] = vCalAddress(f"mailto:{session.attendee}", params=accepted)
    calendar = Calendar()
    calendar["VERSION"] = vText("2.0")
    calendar["PRODID"] = PRODUCT
    calendar["METHOD"] = vText(method)
    calendar.add_component(event)
    return CalendarFile(method, calendar.to_ical())
