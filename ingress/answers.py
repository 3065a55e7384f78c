"""Formats successful answers: JSON with money as exact numbers and times in RFC 3339.

Enters: plain values. Leaves: an HTTP answer that no cache keeps.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from aiohttp import web

from shared.domain import money


def json(status: int, body: Mapping[str, object]) -> web.Response:
    """Return a JSON answer."""
    # aiohttp's own argument for the type costs more than the rest of the answer.
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return web.Response(status=status, body=msgspec.json.encode(body), headers=headers)


def amount(amount_minor: int, currency: str) -> msgspec.Raw:
    """Return minor units as a JSON number with exactly the currency's decimals, written from digits: never a float."""
    return msgspec.Raw(f"{money.to_decimal(amount_minor, currency):f}".encode())


def moment(at: datetime) -> str:
    """Return an aware UTC time as RFC 3339 with a Z."""
    return at.isoformat().replace("+00:00", "Z")
