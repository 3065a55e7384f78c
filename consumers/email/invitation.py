"""A booking -> the calendar file in its letter; pure.

A confirmation asks the calendar to add the session, a cancellation to remove it: the same UID, the next SEQUENCE (RFC 5546,
sections 3.2.2 and 3.2.5). Each person's file names that person alone. Times are in UTC, which every calendar shows in its
owner's zone. Lines are laid out by hand, because the library's components cost as much as the rest of a letter. Next: mime.py.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from icalendar import vText

from consumers.email.kinds import Kind
from consumers.email.mime import CalendarFile

MOMENT = "%Y%m%dT%H%M%SZ"
LINE_BYTES_MAX = 75  # RFC 5545, section 3.1
# Which letters carry a file: METHOD, SEQUENCE and STATUS of it.
METHODS = {Kind.CONFIRMATION: ("REQUEST", 0, "CONFIRMED"), Kind.CANCELLATION: ("CANCEL", 1, "CANCELLED")}


@dataclass(frozen=True, slots=True)
class Session:
    """The session in a calendar file; `at` is aware UTC, the two addresses are those of the letter."""

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
    ends_at = session.at + timedelta(minutes=session.duration_minutes)
    lines = (
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//CultureBridge//Payments//EN",
        f"METHOD:{method}",
        "BEGIN:VEVENT",
        f"UID:{session.booking_id}",  # no host (RFC 7986, section 5.3): a sender that moves must still be able to cancel
        f"SEQUENCE:{sequence}",
        f"DTSTAMP:{written_at:{MOMENT}}",
        f"DTSTART:{session.at:{MOMENT}}",
        f"DTEND:{ends_at:{MOMENT}}",
        f"SUMMARY:{vText(session.summary).to_ical().decode()}",
        f"DESCRIPTION:Booking ID: {session.booking_id}",
        f"STATUS:{status}",
        f"ORGANIZER;CN=CultureBridge:{_mailto(session.organizer)}",
        f"ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=ACCEPTED;RSVP=FALSE:{_mailto(session.attendee)}",
        "END:VEVENT",
        "END:VCALENDAR",
    )
    return CalendarFile(method, "".join(f"{_folded(line)}\r\n" for line in lines).encode())


def _mailto(address: str) -> str:
    """Return the address as a URI (RFC 6068, section 2), quoted: an unquoted `?` in its local part would end the address."""
    return "mailto:" + quote(address, safe="@!$'*+")


def _folded(line: str) -> str:
    """Return a line in pieces of at most 75 bytes, cut between characters; each further one begins with a space."""
    if len(line.encode()) <= LINE_BYTES_MAX:
        return line
    pieces, size = [""], 0
    for character in line:
        size += len(character.encode())
        if size > LINE_BYTES_MAX:
            pieces.append("")
            size = 1 + len(character.encode())
        pieces[-1] += character
    return "\r\n ".join(pieces)
