"""Checks that a letter says nothing untrue about its booking. Pure.

Enters: the text that the mailbox holds, and what the letter is about. Leaves: what it says that belongs to another booking or
is no amount of this one. Texts are what people make them: only what a letter must not say is looked for, and in a letter
about a refund the amount, without which it tells nothing. Next: letters.py.
"""

import re
from collections.abc import Iterator
from decimal import Decimal

from deploy.dev.simulation.persons import DECIMALS

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "KWD": "KWD"}
IDS = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
AMOUNTS = re.compile(r"([$€£¥]|\bKWD)\s*(\d+(?:,\d{3})*(?:\.\d+)?)")


def untrue(text: str, booking_id: str, price: tuple[int, str], refunded_minor: int | None) -> Iterator[str]:
    """Yield what is wrong in the text; amounts are in minor units, `refunded_minor` is that of a letter which must name it."""
    yield from (f"names the booking {foreign}" for foreign in sorted(set(IDS.findall(text)) - {booking_id}))
    amount_minor, currency = price
    may = {_spelled(amount_minor, currency)} | ({_spelled(refunded_minor, currency)} if refunded_minor else set())
    told = {symbol + digits for symbol, digits in AMOUNTS.findall(text)}
    yield from (f"tells of {amount}" for amount in sorted(told - may))
    if refunded_minor and _spelled(refunded_minor, currency) not in told:
        yield "does not tell the amount"


def _spelled(amount_minor: int, currency: str) -> str:
    places = DECIMALS[currency]
    return f"{SYMBOLS[currency]}{Decimal(amount_minor).scaleb(-places):,.{places}f}"
