"""A letter's facts -> the letter: what it says, to whom, and with which calendar file; pure.

Enters: the facts of the ledger and the profiles at the time of sending, and the templates. Leaves: the exact bytes for the mail
server, or why there are none. mime.py lays them out. Next in the walk: delivery.py, which sends them.
"""

import functools
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from email.utils import format_datetime
from importlib import resources
from typing import Literal
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_currency, get_currency_symbol

from consumers.email import invitation, mime, names
from shared.domain import money
from shared.letters.templates import Templates
from shared.letters.words import LETTERS, Words

LOCALE = "en"  # nobody's language is stored; the letters are written in English
SENDER_NAME = "CultureBridge"
# The locked package's rules, not the machine's, which may be years old: the hour in a letter must not depend on the machine.
TZDATA = resources.files("tzdata")
UNKNOWN_ZONE = "Factory"  # the zone of a machine on which nobody set one

Role = Literal["client", "coach"]


@dataclass(frozen=True, slots=True)
class Person:
    """One of the two people of a booking, as the database has them: every text is unchecked."""

    address: str | None
    first_name: str | None
    last_name: str | None
    timezone: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All data that a letter is written from. `session_at` is aware UTC; the amounts belong to the payment that it is about."""

    kind: str
    role: Role
    message_id: str
    booking_id: str
    client: Person
    coach: Person
    session_at: datetime
    duration_minutes: int
    amount_minor: int
    refunded_minor: int | None
    currency: str
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Letter:
    """Ready for the mail server: the envelope's two addresses, and the message as bytes with CRLF."""

    sender: str
    recipient: str
    message_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Unwritten:
    """No letter could be made; `reason` is a stable code, with an optional detail after a colon."""

    reason: str


def compose(facts: Facts, templates: Templates, *, sender: str, at: datetime) -> Letter | Unwritten:
    """Write the letter; `sender` is the address it comes from, `at` the moment for its Date."""
    name = f"{facts.role}_{facts.kind}"
    if name not in LETTERS:
        return Unwritten("unknown_kind")  # of a newer release, which runs beside this one or was rolled back
    reader = facts.client if facts.role == "client" else facts.coach
    recipient = names.mailbox_address(reader.address)
    if recipient is None:
        return Unwritten("bad_address" if (reader.address or "").strip() else "missing_address")
    words = _words(facts, reader)
    content = templates.render(name, words)
    message = mime.message(
        {
            "From": f"{SENDER_NAME} <{sender}>",
            "To": recipient,
            "Reply-To": sender,
            "Subject": content.subject,
            "Date": format_datetime(at),
            "Message-ID": facts.message_id,
            "Auto-Submitted": "auto-generated",  # RFC 3834: no out-of-office replies
        },
        content,
        invitation.calendar_file(facts.kind, _session(facts, words, recipient, sender), written_at=at),
    )
    return Letter(sender=sender, recipient=recipient, message_id=facts.message_id, content=message)


def _session(facts: Facts, words: Words, recipient: str, sender: str) -> invitation.Session:
    other = words["coach_name"] if facts.role == "client" else words["client_name"]
    return invitation.Session(
        booking_id=facts.booking_id,
        at=facts.session_at,
        duration_minutes=facts.duration_minutes,
        summary=f"Coaching session with {other}" if other else "Coaching session",
        attendee=recipient,
        organizer=sender,
    )


def _words(facts: Facts, reader: Person) -> Words:
    zone = _zone(reader.timezone)
    local = facts.session_at.astimezone(zone)
    return Words(
        first_name=names.clean(reader.first_name or "") or names.full_name(reader.first_name, reader.last_name),
        client_name=names.full_name(facts.client.first_name, facts.client.last_name),
        coach_name=names.full_name(facts.coach.first_name, facts.coach.last_name),
        date=_day(local.date()),
        time=f"{local:%H:%M}",
        time_zone=_zone_name(local),
        duration=f"{facts.duration_minutes} minutes",
        amount=amount(facts.amount_minor, facts.currency),
        refunded=None if facts.refunded_minor is None else amount(facts.refunded_minor, facts.currency),
        cancelled=facts.cancelled,
        booking_id=facts.booking_id,
    )


@functools.lru_cache(maxsize=1024)  # prices are few, and the pattern is parsed anew each time
def amount(amount_minor: int, currency: str) -> str:
    """Return money as people write it, with the currency's own decimals: "$75.00", "¥8,000", "KWD 7.500"."""
    scale = money.scale(currency)
    # A currency charged in whole units shows none: Stripe's two decimals of ISK are always 00.
    decimals = 0 if scale.step_minor == 10**scale.decimals else scale.decimals
    code = currency.upper()
    gap = "\N{NO-BREAK SPACE}" if get_currency_symbol(code, LOCALE)[-1].isalpha() else ""
    pattern = f"¤{gap}#,##0" + (f".{'0' * decimals}" if decimals else "")
    # The pattern's decimals and not CLDR's, which differ from Stripe's for some currencies and would round.
    value = money.to_decimal(amount_minor, currency)
    return format_currency(value, code, pattern, locale=LOCALE, currency_digits=False)


def _zone(name: str | None) -> ZoneInfo:
    """Return the zone of this IANA name; an empty or wrong one is UTC."""
    known = (name or "").strip()
    return _rules(known if known in _zone_names() else "UTC")


@functools.cache
def _rules(name: str) -> ZoneInfo:
    with TZDATA.joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


@functools.lru_cache(maxsize=1024)  # as for prices: a day has many sessions
def _day(local: date) -> str:
    return format_date(local, "EEEE, d MMMM y", locale=LOCALE)


def _zone_name(local: datetime) -> str:
    """Return the zone with its offset at that moment: "Europe/Berlin (UTC+1)", "Asia/Kathmandu (UTC+5:45)".

    No spoken names: CLDR has them by rules of its own, which are not those that computed the hour. They call Ireland's winter
    "Irish Standard Time", and Vancouver's time "Pacific Time" although the law has moved it.
    """
    key = str(local.tzinfo)
    minutes = (local.utcoffset() or timedelta()) // timedelta(minutes=1)
    hours, rest = divmod(abs(minutes), 60)
    return key if key == "UTC" else f"{key} (UTC{'-' if minutes < 0 else '+'}{hours}{f':{rest:02}' if rest else ''})"


@functools.cache
def _zone_names() -> frozenset[str]:
    return frozenset(TZDATA.joinpath("zones").read_text().split()) - {UNKNOWN_ZONE}
