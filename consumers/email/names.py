"""Cleans what people typed, for a header, for HTML and for plain text; pure.

Names are untrusted until they were cleaned here: no control characters, no line breaks of any kind, no marks that turn the
reading direction, nothing that a mail program would turn into a link, and a bounded length.
"""

import re
import unicodedata

import idna

NAME_CHARACTERS_MAX = 80
JOINERS = "\u200c\u200d"  # zero-width, but Persian, Indic and many other names are misspelt without them
FILLERS = "\u115f\u1160\u3164\uffa0"  # letters of Hangul by their category, but invisible
ADDRESS_CHARACTERS_MAX = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets
LOCAL_PART_CHARACTERS_MAX = 64  # RFC 5321, section 4.5.3.1.1

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")
# A dot before anything but a blank or ASCII punctuation: names of hosts may also hold accents and joiners, which are no letters
# to `\w`. The other three characters count as dots when a host is looked up (UTS #46, section 2.3).
_LINKLIKE_DOT = re.compile(r"(?<=\S)[.\u3002\uff0e\uff61](?=[^\s!-/:-@\[-`{-~])")
_LINKLIKE = re.compile(r"://|@")
_ENCODED_WORD = re.compile(r"=\?|\?=")


def full_name(first: str | None, last: str | None) -> str | None:
    """Return "First Last", clean and at most 80 characters, or None when nothing readable is left."""
    return clean(f"{first or ''} {last or ''}")


def clean(text: str) -> str | None:
    """Return one line of visible characters, or None when no letter or digit is among them.

    A dot inside a word becomes one with a space after it, and `://` and `@` become spaces: mail programs turn `evil.example` in
    a plain text into a link, and our letters must carry no links of others. The brackets of RFC 2047's encoded words go too: a
    header library would decode what is between them, line breaks included.
    """
    # Before the slow parts: a name of megabytes must not keep us busy.
    short = text[: NAME_CHARACTERS_MAX * 8]
    plain = short.isascii() and short.isprintable()  # most names: no character needs a look of its own
    visible = short if plain else "".join(_visible(character) for character in unicodedata.normalize("NFC", short))
    unlinked = _LINKLIKE_DOT.sub(". ", _LINKLIKE.sub(" ", _ENCODED_WORD.sub(" ", visible)))
    line = " ".join(unlinked.split())
    if not any(character.isalnum() for character in line):
        return None
    return line if len(line) <= NAME_CHARACTERS_MAX else line[: NAME_CHARACTERS_MAX - 1].rstrip() + "…"


def mailbox_address(text: str | None) -> str | None:
    """Return the address when every mail server accepts its form (ASCII, dot-atom), with an IDNA domain; else None.

    The domain is encoded as registries do today (IDNA 2008, UTS 46): by the rules of 2003, which Python's own codec follows,
    straße.example is strasse.example, and the letter goes to the owner of that. Quoted local parts and address literals are
    legal and never seen; refusing them keeps the SMTP dialogue free of quotes.
    """
    local, at, domain = (text or "").strip().rpartition("@")
    if not at or len(domain) > ADDRESS_CHARACTERS_MAX:
        return None
    try:
        address = f"{local}@{domain if domain.isascii() else idna.encode(domain, uts46=True).decode('ascii')}"
    except UnicodeError:
        return None
    fits = len(address) <= ADDRESS_CHARACTERS_MAX and len(local) <= LOCAL_PART_CHARACTERS_MAX
    return address if fits and _ADDRESS.fullmatch(address) else None


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character in JOINERS:
        return character
    if category.startswith("Z") or character in FILLERS or character in "\t\n\r\v\f\x1c\x1d\x1e\x85":
        return " "
    return "" if category.startswith("C") else character
