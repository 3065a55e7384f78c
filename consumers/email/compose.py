"""A letter's facts -> the letter: subject, HTML, text, headers; pure, apart from the templates that are read once.

Enters: what the ledger and the profiles know when the letter is sent. Leaves: the exact bytes for the mail server, or why
nobody can be written to. Next: delivery.py.
"""

import functools
import zoneinfo
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal

from babel.dates import format_date, format_time, get_timezone_name
from babel.numbers import format_currency, get_currency_symbol
from jinja2 import PackageLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from consumers.email import names
from shared.domain import money

LOCALE = "en"  # nobody's language is stored; the letters are written in English
SENDER_NAME = "CultureBridge"
HEADER_LINE_MAX = 998  # RFC 5322, section 2.1.1
UNTRUSTED_ZONES = {"localtime", "Factory"}  # they name whatever this machine is set to

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
    """All that a letter is made of. `session_at` is aware UTC; the amount belongs to the payment that confirmed."""

    kind: str
    role: Role
    message_id: str
    booking_id: str
    client: Person
    coach: Person
    session_at: datetime
    duration_minutes: int
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Letter:
    """Ready for the mail server: the envelope's two addresses, and the message as bytes with CRLF."""

    sender: str
    recipient: str
    message_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Unaddressable:
    """There is nobody to write to: `missing_address` or `bad_address`."""

    reason: str


def compose(facts: Facts, *, sender: str, at: datetime) -> Letter | Unaddressable:
    """Write the letter; `sender` is the address it comes from, `at` the moment for its Date."""
    reader = facts.client if facts.role == "client" else facts.coach
    recipient = names.mailbox_address(reader.address)
    if recipient is None:
        return Unaddressable("bad_address" if (reader.address or "").strip() else "missing_address")
    content = _content(facts)
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(display_name=SENDER_NAME, addr_spec=sender)
    message["To"] = Address(addr_spec=recipient)
    message["Reply-To"] = Address(addr_spec=sender)
    message["Subject"] = content.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = facts.message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices in answer, please
    # Quoted-printable, so that a server without 8BITMIME may pass it on unchanged.
    message.set_content(content.text, cte="quoted-printable")
    message.add_alternative(content.html, subtype="html", cte="quoted-printable")
    # Folding an ASCII subject can move all of it to a second line, which programs show with a space before it; ours are short.
    folding = SMTP.clone(max_line_length=HEADER_LINE_MAX) if content.subject.isascii() else SMTP
    return Letter(sender=sender, recipient=recipient, message_id=facts.message_id, content=message.as_bytes(policy=folding))


@dataclass(frozen=True, slots=True)
class Content:
    """What a person reads."""

    subject: str
    html: str
    text: str


def _content(facts: Facts) -> Content:
    folder = f"{facts.role}_{facts.kind}"
    words = _words(facts)
    subject = _templates().get_template(f"{folder}/subject.txt").render(words)
    html = _templates().get_template(f"{folder}/body.html").render(words, subject=" ".join(subject.split()))
    text = _templates().get_template(f"{folder}/body.txt").render(words)
    return Content(subject=" ".join(subject.split()), html=html, text=text)


def _words(facts: Facts) -> dict[str, object]:
    """Return what a template may say; every value is clean text."""
    reader = facts.client if facts.role == "client" else facts.coach
    zone = _zone(reader.timezone)
    local = facts.session_at.astimezone(zone)
    return {
        "client_name": names.full_name(facts.client.first_name, facts.client.last_name),
        "coach_name": names.full_name(facts.coach.first_name, facts.coach.last_name),
        "first_name": names.clean(reader.first_name or "") or names.full_name(reader.first_name, reader.last_name),
        "date": format_date(local, "EEEE, d MMMM y", locale=LOCALE),
        "time": format_time(local, "HH:mm", tzinfo=zone, locale=LOCALE),
        "time_zone": _zone_name(local, zone),
        "duration": f"{facts.duration_minutes} minutes",
        "amount": amount(facts.amount_minor, facts.currency),
        "booking_id": facts.booking_id,
    }


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


def _zone(name: str | None) -> zoneinfo.ZoneInfo:
    """Return the zone of this IANA name; an empty or wrong one is UTC."""
    known = (name or "").strip()
    return zoneinfo.ZoneInfo(known if known in _zone_names() else "UTC")


def _zone_name(local: datetime, zone: zoneinfo.ZoneInfo) -> str:
    spoken = get_timezone_name(local, locale=LOCALE)
    return "UTC" if zone.key == "UTC" else f"{spoken} ({zone.key})"


@functools.cache
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() - UNTRUSTED_ZONES)


@functools.cache
def _templates() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=PackageLoader("consumers.email", "templates"),
        autoescape=select_autoescape(["html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
