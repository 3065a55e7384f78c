"""What a template may say, and an example of every case that a letter may be in.

The words are the contract between the code that knows a booking and the texts that people edit: they are only ever added.
Next: templates.py renders them, examination.py tries every example.
"""

import itertools
from collections.abc import Sequence
from typing import TypedDict

SUBJECT = "subject"  # what the subject's own template made, for the HTML's title


class Words(TypedDict):
    """All values are clean text of one line, formatted for the reader; None where nothing is known."""

    first_name: str | None  # the reader's
    client_name: str | None
    coach_name: str | None
    date: str
    time: str
    time_zone: str
    duration: str
    amount: str  # what the session costs
    refunded: str | None  # what was refunded so far, in a letter that names a refund; as `amount` when it was all
    cancelled: bool  # whether the booking is cancelled by now
    booking_id: str


NAMES = frozenset(Words.__annotations__)
# Every letter, and whether it may name a refund: always, perhaps, or never.
LETTERS = {
    "client_confirmation": (None,),
    "coach_confirmation": (None,),
    "client_cancellation": ("$75.00", None),
    "coach_cancellation": ("$75.00", None),
    "client_refund": ("$20.00", "$75.00"),
    "client_payment_failed": (None,),
}
PESOS = {"$20.00": "CLP\N{NO-BREAK SPACE}2,000", "$75.00": "CLP\N{NO-BREAK SPACE}7,500"}
MARKUP = '<img src=x onerror=alert(1)></td></tr>"><a href="https://evil.example">'


def example(letter: str) -> Words:
    """Return the example that is shown to people."""
    return _words(letter, "Ada Lovelace", "Charles Babbage", LETTERS[letter][0], cancelled="cancellation" in letter)


def hostile(words: Words) -> Words:
    """Return the same case, with names that would change the HTML if a template let them; a missing name stays missing."""
    first, client, coach = (name and MARKUP for name in (words["first_name"], words["client_name"], words["coach_name"]))
    return words | {"first_name": first, "client_name": client, "coach_name": coach}


def examples(letter: str) -> Sequence[Words]:
    """Return every case: with and without each name, each refund, the booking cancelled or not; and all of it elsewhere."""
    cases = itertools.product(("Ada Lovelace", None), ("Charles Babbage", None), LETTERS[letter], (False, True))
    usual = [_words(letter, client, coach, refunded, cancelled=cancelled) for client, coach, refunded, cancelled in cases]
    return [*usual, *(_elsewhere(letter, words) for words in usual if words["client_name"] and words["coach_name"])]


def _elsewhere(letter: str, words: Words) -> Words:
    """Return the same case of people with one name each and no time zone, in a currency without a sign and decimals."""
    refunded = words["refunded"] and PESOS[words["refunded"]]
    case = _words(letter, "Sukarno", "Teller", refunded, cancelled=words["cancelled"])
    return case | {"time_zone": "UTC", "amount": PESOS[words["amount"]]}


def _words(letter: str, client: str | None, coach: str | None, refunded: str | None, *, cancelled: bool) -> Words:
    reader = client if letter.startswith("client") else coach
    return Words(
        first_name=reader and reader.partition(" ")[0],
        client_name=client,
        coach_name=coach,
        date="Tuesday, 24 November 2026",
        time="18:30",
        time_zone="Europe/Berlin (UTC+1)",
        duration="90 minutes",
        amount="$75.00",
        refunded=refunded,
        cancelled=cancelled,
        booking_id="123e4567-e89b-12d3-a456-426614174000",
    )
