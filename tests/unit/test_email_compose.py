"""Letters say all that a reader needs of a booking, in their own time zone, and no name can break out of its place."""

import email
import email.policy
import functools
import re
import zoneinfo
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.email import mime, names
from consumers.email.compose import Facts, Letter, Person, Unwritten, amount, compose
from shared.letters.templates import Content, Templates, released
from shared.letters.words import LETTERS
from tests.support.names import HOSTILE, REAL

ADA = Person("ada@example.org", "Ada", "Lovelace", "Europe/Berlin")
CHARLES = Person("charles@example.org", "Charles", "Babbage", "America/New_York")
FACTS = Facts(
    kind="confirmation",
    role="client",
    message_id="<6f1b@culturebridge.com>",
    booking_id="123e4567-e89b-12d3-a456-426614174000",
    client=ADA,
    coach=CHARLES,
    session_at=datetime(2026, 11, 24, 17, 30, tzinfo=UTC),
    duration_minutes=90,
    amount_minor=7500,
    refunded_minor=None,
    currency="USD",
    cancelled=False,
)
TEMPLATES = Templates(released())
AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
SENDER = "noreply@culturebridge.com"


def write(facts=FACTS):
    letter = compose(facts, TEMPLATES, sender=SENDER, at=AT)
    assert isinstance(letter, Letter)
    return letter


def parsed(letter):
    return read(letter.content)


@functools.lru_cache(maxsize=8)
def read(content):
    """A message that nobody changes; each test looks at its own from several sides."""
    return email.message_from_bytes(content, policy=email.policy.default)


def text_of(letter):
    return parsed(letter).get_body(("plain",)).get_content().replace("\r\n", "\n")


def html_of(letter):
    return parsed(letter).get_body(("html",)).get_content()


class Dom(HTMLParser):
    """The elements with their attributes, and the words between them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.words = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(attrs)))

    def handle_endtag(self, tag):
        self.elements.append(("/", tag))

    def handle_comment(self, data):
        self.elements.append(("comment", data))

    def handle_data(self, data):
        if data.strip():
            self.words.append(" ".join(data.split()))


def test_the_client_is_told_with_whom_and_when_and_what_it_cost():
    """Subject, greeting, coach, date, time, duration, booking id and next steps, in HTML and in text."""
    letter = write()

    assert parsed(letter)["Subject"] == "Booking Confirmed: Session with Charles Babbage"
    for body in (text_of(letter), " ".join(Dom(html_of(letter)).words)):
        assert "Hello Ada," in body
        assert "Charles Babbage" in body
        assert "Tuesday, 24 November 2026" in body
        assert "18:30, Europe/Berlin (UTC+1)" in body
        assert "90 minutes" in body
        assert FACTS.booking_id in body
        assert "What comes next" in body
        assert "75.00" not in body


def test_the_coach_is_told_with_whom_and_when():
    """Subject, greeting, client, date, time, duration, amount, booking id and how to prepare."""
    letter = write(replace(FACTS, role="coach"))

    assert parsed(letter)["Subject"] == "New Booking: Session with Ada Lovelace"
    for body in (text_of(letter), " ".join(Dom(html_of(letter)).words)):
        assert "Hello Charles," in body
        assert "Ada Lovelace" in body
        assert "12:30, America/New_York (UTC-5)" in body
        assert "90 minutes" in body
        assert "$75.00" in body
        assert FACTS.booking_id in body
        assert "How to prepare" in body


def test_headers_are_those_of_an_automatic_letter():
    """One sender, one recipient, the ledger's Message-ID, a Date, where to answer, and that no machine should."""
    message = parsed(write())

    assert {
        "From": "CultureBridge <noreply@culturebridge.com>",
        "To": "ada@example.org",
        "Reply-To": "noreply@culturebridge.com",
        "Message-ID": FACTS.message_id,
        "Date": "Fri, 20 Nov 2026 08:00:00 +0000",
        "Auto-Submitted": "auto-generated",
        "Subject": "Booking Confirmed: Session with Charles Babbage",
        "MIME-Version": "1.0",
    } == {name: str(value) for name, value in message.items() if name != "Content-Type"}
    assert message.get_content_type() == "multipart/mixed"
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/calendar",
    ]
    assert message.defects == []


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leaves_its_place(name, letter):
    """Whatever a name holds, every letter has the same headers, parts, elements and calendar lines, and the name as words."""
    role, _, kind = letter.partition("_")
    facts = replace(FACTS, role=role, kind=kind, refunded_minor=2000 if kind in {"refund", "cancellation"} else None)
    plain = write(facts)
    hostile = write(
        replace(
            facts,
            client=replace(ADA, first_name=name, last_name=name),
            coach=replace(CHARLES, first_name=name, last_name=name),
        )
    )

    was, now = parsed(plain), parsed(hostile)
    shown = names.full_name(name, name)
    other = "Charles Babbage" if role == "client" else "Ada Lovelace"
    assert [(k, str(v)) for k, v in was.items() if k not in {"Subject", "Content-Type"}] == [
        (k, str(v)) for k, v in now.items() if k not in {"Subject", "Content-Type"}
    ]
    assert str(now["Subject"]) == str(was["Subject"]).replace(other, shown)
    assert [part.get_content_type() for part in now.walk()] == [part.get_content_type() for part in was.walk()]
    assert all(part.defects == [] for part in now.walk())
    dom, plain_dom = Dom(html_of(hostile)), Dom(html_of(plain))
    assert dom.elements == plain_dom.elements
    assert len(dom.words) == len(plain_dom.words)
    assert shown in dom.words
    assert shown in text_of(hostile)
    assert len(text_of(hostile).splitlines()) == len(text_of(plain).splitlines())
    assert calendar_lines(now) == [line.replace(other, shown) for line in calendar_lines(was)]
    assert all(len(line) <= 998 for line in hostile.content.split(b"\r\n"))


@given(st.text(st.sampled_from("ab =.\t\n\u00e9\u20ac\u2028"), min_size=60, max_size=300))
def test_no_line_of_a_body_is_longer_than_quoted_printable_may_be(text):
    """RFC 2045, section 6.7: 76 characters; whatever the text, and it comes out again but for blanks that nobody sees."""
    message = mime.message({}, Content(subject="", text=text, html=text), None)

    for part in email.message_from_bytes(message, policy=email.policy.default).iter_parts():
        assert all(len(line) <= 76 for line in part.get_payload().splitlines())
        told = part.get_payload(decode=True).decode().replace("\r\n", "\n")
        assert told == "\n".join(line.rstrip(" \t") for line in text.split("\n"))


def calendar_lines(message):
    """The lines of the calendar file, unfolded and unescaped."""
    files = [part.get_content() for part in message.iter_attachments()]
    text = "".join(files).replace("\r\n", "\n").replace("\n ", "")
    return re.sub(r"\\([,;\\])", r"\1", text).split("\n")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120))
def test_any_name_at_all_arrives_in_the_subject(name):
    """Folding and encoding lose nothing and add nothing, whatever script a name is written in."""
    letter = write(replace(FACTS, coach=replace(CHARLES, first_name=name, last_name=None)))

    shown = names.clean(name) or "your coach"
    assert parsed(letter)["Subject"] == f"Booking Confirmed: Session with {shown}"
    assert parsed(letter).keys() == parsed(write()).keys()


@pytest.mark.parametrize("role", ["client", "coach"])
@pytest.mark.parametrize("name", REAL)
def test_everybody_is_written_to_by_their_name(name, role):
    """A name of any script stands in the subject, the joiners included without which it is misspelt."""
    somebody = Person("somebody@example.org", name, None, None)

    letter = write(replace(FACTS, role=role, client=somebody, coach=somebody))

    assert parsed(letter)["Subject"].endswith(f"Session with {name}")


@pytest.mark.parametrize("nothing", [None, "", "  ", "\u202e", "\x00", "--", "\u200d", "\u3164 \uffa0\u115f\u1160"])
def test_without_names_the_greeting_is_neutral(nothing):
    """A missing profile or an empty name still gets a letter."""
    nobody = Person("ada@example.org", nothing, nothing, None)
    client = write(replace(FACTS, client=nobody, coach=nobody))
    coach = write(replace(FACTS, role="coach", client=nobody, coach=nobody))

    assert parsed(client)["Subject"] == "Booking Confirmed: Session with your coach"
    assert parsed(coach)["Subject"] == "New Booking: Session with a client"
    for letter in (client, coach):
        assert text_of(letter).startswith("Hello,\n")
        assert "Hello," in Dom(html_of(letter)).words
        assert "None" not in text_of(letter) + html_of(letter)


@pytest.mark.parametrize(
    "zone", [None, "", " ", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "localtime", "x" * 50, "é"]
)
def test_a_wrong_time_zone_is_utc(zone):
    """An empty or unknown zone is told as UTC, never an error."""
    assert "17:30, UTC" in text_of(write(replace(FACTS, client=replace(ADA, timezone=zone))))


def test_the_machines_time_zones_change_no_letter(tmp_path):
    """A machine that believes Tokyo to be at UTC: what counts are the rules that were locked."""
    there = tmp_path / "Asia/Tokyo"
    there.parent.mkdir()
    there.write_bytes(resources.files("tzdata").joinpath("zoneinfo/UTC").read_bytes())
    zoneinfo.reset_tzpath(to=[str(tmp_path)])
    try:
        zoneinfo.ZoneInfo.clear_cache()
        letter = write(replace(FACTS, client=replace(ADA, timezone="Asia/Tokyo")))
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()

    assert "02:30, Asia/Tokyo (UTC+9)" in text_of(letter)


def test_the_date_is_the_readers():
    """Late in the evening UTC it is tomorrow in Tokyo, and another year where that ends."""
    tokyo = write(replace(FACTS, client=replace(ADA, timezone="Asia/Tokyo")))
    assert "Wednesday, 25 November 2026" in text_of(tokyo)
    assert "02:30, Asia/Tokyo (UTC+9)" in text_of(tokyo)

    chatham = replace(
        FACTS, session_at=datetime(2026, 12, 31, 12, 0, tzinfo=UTC), client=replace(ADA, timezone="Pacific/Chatham")
    )
    assert "Friday, 1 January 2027" in text_of(write(chatham))


@pytest.mark.parametrize(
    ("zone", "at", "told"),
    [
        # The hour that there is twice, and the one that there is not.
        ("Europe/Berlin", "2026-10-25T00:30", "02:30, Europe/Berlin (UTC+2)"),
        ("Europe/Berlin", "2026-10-25T01:30", "02:30, Europe/Berlin (UTC+1)"),
        ("Europe/Berlin", "2026-03-29T00:59", "01:59, Europe/Berlin (UTC+1)"),
        ("Europe/Berlin", "2026-03-29T01:00", "03:00, Europe/Berlin (UTC+2)"),
        # Half an hour of summer time.
        ("Australia/Lord_Howe", "2027-04-03T14:45", "01:45, Australia/Lord_Howe (UTC+11)"),
        ("Australia/Lord_Howe", "2027-04-03T15:15", "01:45, Australia/Lord_Howe (UTC+10:30)"),
        # By law summer is the standard time here, and winter the exception.
        ("Europe/Dublin", "2026-07-15T12:00", "13:00, Europe/Dublin (UTC+1)"),
        ("Europe/Dublin", "2026-01-15T12:00", "12:00, Europe/Dublin (UTC+0)"),
        ("Asia/Kathmandu", "2026-01-15T12:00", "17:45, Asia/Kathmandu (UTC+5:45)"),
        ("America/St_Johns", "2026-07-15T12:00", "09:30, America/St_Johns (UTC-2:30)"),
        # A name that was renamed since.
        ("Asia/Calcutta", "2026-01-15T12:00", "17:30, Asia/Calcutta (UTC+5:30)"),
    ],
)
def test_the_hour_and_its_offset_are_by_the_same_rules(zone, at, told):
    """A reader who reckons from the offset comes at the right time, also in the hour that there is twice."""
    facts = replace(FACTS, session_at=datetime.fromisoformat(at).replace(tzinfo=UTC), client=replace(ADA, timezone=zone))

    assert f"{told}\n" in text_of(write(facts))


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (7500, "USD", "$75.00"),
        (8000, "JPY", "¥8,000"),
        (7500, "KWD", "KWD\u00a07.500"),
        (750000, "ISK", "ISK\u00a07,500"),
        (123456789, "eur", "€1,234,567.89"),
        (7550, "ALL", "ALL\u00a075.50"),
        (5, "CAD", "CA$0.05"),
        (0, "USD", "$0.00"),
    ],
)
def test_money_has_its_currencys_decimals(minor, currency, shown):
    """Minor units are told exactly, with the decimals that Stripe counts in."""
    assert amount(minor, currency) == shown


@pytest.mark.parametrize("address", [None, "", "  "])
def test_without_an_address_nobody_is_written_to(address):
    """A missing address is told apart from a bad one."""
    facts = replace(FACTS, client=replace(ADA, address=address))
    assert compose(facts, TEMPLATES, sender=SENDER, at=AT) == Unwritten("missing_address")


@pytest.mark.parametrize(
    "address",
    [
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "ada@exa mple.org",
        "ada\r\nRCPT TO:<eve@evil.example>@example.org",
        "ada@example.org\r\nBcc: eve@evil.example",
        "ada@example.org>, <eve@evil.example",
        "ada@example.org,eve@evil.example",
        "Ada <ada@example.org>",
        "äda@example.org",
        "a..b@example.org",
        "ada@-example.org",
        "ada@example..org",
        "x" * 65 + "@example.org",
        "ada@" + "x" * 64 + ".org",
        "ada@\x00example.org",
        '"a b"@example.org',
    ],
)
def test_a_bad_address_is_refused(address):
    """What no mail server should be told is never told to one."""
    facts = replace(FACTS, client=replace(ADA, address=address))
    assert compose(facts, TEMPLATES, sender=SENDER, at=AT) == Unwritten("bad_address")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (" ada@bücher.example ", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.example", "ada@xn--strae-oqa.example"),
        ("ada@βόλος.example", "ada@xn--nxasmm1c.example"),
    ],
)
def test_a_domain_in_any_script_is_written_in_ascii(address, told):
    """Grüße an ada@bücher.example: mail servers know the domain by its IDNA form, and straße is not strasse's."""
    assert write(replace(FACTS, client=replace(ADA, address=address))).recipient == told


def test_the_html_is_for_mail_programs_and_for_everybody():
    """No script, no outside resource, no form; layout tables say so, data rows have headers, the language is told."""
    dom = Dom(html_of(write(replace(FACTS, role="coach"))))
    tags = {tag for tag, _ in dom.elements}
    assert tags.isdisjoint({"script", "img", "link", "form", "iframe", "a", "object"})
    attributes = [(tag, dict(attrs)) for tag, attrs in dom.elements if tag not in {"/", "comment"}]
    assert ("html", {"lang": "en", "dir": "ltr"}) in attributes
    assert all("src" not in attrs and "href" not in attrs for _, attrs in attributes)
    assert sum(attrs.get("scope") == "row" for tag, attrs in attributes if tag == "th") == 6
    assert sum(attrs.get("role") != "presentation" for tag, attrs in attributes if tag == "table") == 1
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in attributes
