"""Checks where a customer may be sent back to. Pure.

Enters: a `success_url` or `cancel_url`, and the allowed origins. Leaves: whether it may be given to Stripe. The checks read the
text itself before any parser does, since a browser and Python's urlsplit disagree about backslashes, tabs and what stands
before an @ (WHATWG URL Standard against RFC 3986), and such a difference allows an open redirect.
"""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from shared.settings import DEFAULT_PORTS

URL_CHARACTERS_MAX = 2048
# What RFC 3986 allows in a URI, and the braces of Stripe's placeholder {CHECKOUT_SESSION_ID}.
CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%{}]+")
ORIGIN = re.compile(r"(https?://[^/?#]+)(?:[/?#]|$)", re.IGNORECASE)


def is_allowed(url: str, origins: Collection[str]) -> bool:
    """Return whether `url` leads to exactly one of `origins` (each `scheme://host[:port]`, http only for loopback)."""
    if len(url) > URL_CHARACTERS_MAX or not CHARACTERS.fullmatch(url):
        return False
    start = ORIGIN.match(url)
    if start is None or "@" in start[1]:
        return False
    try:
        asked = _normal(start[1])
    except ValueError:
        return False
    return asked in {_normal(origin) for origin in origins}


def _normal(origin: str) -> tuple[str, str, int]:
    """Return scheme, host and port as RFC 6454, section 4 compares origins; ValueError for a port that is no number."""
    parts = urlsplit(origin)
    return parts.scheme, parts.hostname or "", DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
