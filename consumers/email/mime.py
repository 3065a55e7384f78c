"""Headers and content -> the bytes of a message, with CRLF; pure.

Laid out by hand around the standard library's encoders, because its message classes cost two thirds of a letter's time.
Enters: clean values. Leaves: a multipart/alternative of text and HTML, with the calendar file beside it where there is one.
Source: RFC 2045 and 2046 (parts, encodings), RFC 2047 (words in headers), RFC 5322. Next: delivery.py.
"""

import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.header import Header

from consumers.email import names
from shared.letters.templates import Content

LINE_CHARACTERS_MAX = 998  # RFC 5322, section 2.1.1
FOLDED_CHARACTERS = 76
BASE64_BYTES_PER_LINE = 57
# Not printable to `isprintable`, but a part of many names.
_WITHOUT_JOINERS = str.maketrans("", "", names.JOINERS)


class NotOneLine(ValueError):
    """A header value that would become several headers, or two lines; nothing is written."""


@dataclass(frozen=True, slots=True)
class CalendarFile:
    """An iCalendar object as a part of a letter; `method` is its own METHOD (RFC 5546)."""

    method: str
    content: bytes


def message(headers: Mapping[str, str], content: Content, calendar: CalendarFile | None) -> bytes:
    """Return the message; raises NotOneLine when a header holds a control character or is too long."""
    head = "".join(f"{name}: {_value(name, value)}\r\n" for name, value in headers.items()).encode("ascii")
    # Quoted-printable never contains "=_", nor base64 "_": no part can contain its own boundary.
    mark = hashlib.blake2b(head, digest_size=12).hexdigest().encode()
    bodies = _multipart(
        b"alternative",
        b"=_a" + mark,
        _part(b"text/plain; charset=utf-8", b"quoted-printable", _quoted_printable(content.text)),
        _part(b"text/html; charset=utf-8", b"quoted-printable", _quoted_printable(content.html)),
    )
    if calendar is not None:
        bodies = _multipart(b"mixed", b"=_m" + mark, bodies, _attached(calendar))
    return head + b"MIME-Version: 1.0\r\n" + bodies


def _value(name: str, value: str) -> str:
    if not value.translate(_WITHOUT_JOINERS).isprintable():
        raise NotOneLine(name)
    if not value.isascii():
        return Header(value, "utf-8", maxlinelen=FOLDED_CHARACTERS, header_name=name).encode(linesep="\r\n")
    # Folding an ASCII value can move all of it to a second line, which programs show with a space before it; ours are short.
    if len(name) + len(value) + 2 > LINE_CHARACTERS_MAX:
        raise NotOneLine(name)
    return value


def _multipart(subtype: bytes, boundary: bytes, *parts: bytes) -> bytes:
    opening = b"\r\n--" + boundary + b"\r\n"
    head = b'Content-Type: multipart/%s; boundary="%s"\r\n' % (subtype, boundary)
    return head + opening + opening.join(parts) + b"\r\n--" + boundary + b"--\r\n"


def _part(content_type: bytes, encoding: bytes, body: bytes) -> bytes:
    return b"Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s" % (content_type, encoding, body)


def _attached(calendar: CalendarFile) -> bytes:
    content_type = b'text/calendar; charset=utf-8; method=%s; name="session.ics"' % calendar.method.encode("ascii")
    body = b"\r\n".join(
        binascii.b2a_base64(calendar.content[at : at + BASE64_BYTES_PER_LINE], newline=False)
        for at in range(0, len(calendar.content), BASE64_BYTES_PER_LINE)
    )
    head = b'Content-Disposition: attachment; filename="session.ics"\r\n'
    return head + _part(content_type, b"base64", body)


def _quoted_printable(text: str) -> bytes:
    """Return it quoted-printable, in lines of at most 76 characters: a server without 8BITMIME may pass it on unchanged.

    Blanks at the end of a line are removed, since they mean nothing and `b2a_qp` would encode them beyond its own limit.
    """
    lines = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    return binascii.b2a_qp(lines.encode(), istext=True).replace(b"\n", b"\r\n")
