"""Cards: which numbers are cards at all, and what each test card does. Pure.

Numbers and outcomes are those of docs.stripe.com/testing. Next: ``checkout`` plays them.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Pays:
    """The bank says yes."""


@dataclass(frozen=True)
class Declines:
    """The bank says no, with Stripe's words for it."""

    code: str
    decline_code: str
    advice_code: str
    message: str


@dataclass(frozen=True)
class Challenges:
    """The bank asks for 3-D Secure first, and says yes after it."""


Behaviour = Pays | Declines | Challenges


@dataclass(frozen=True)
class TestCard:
    """A number with its behaviour, and what a person reads beside it."""

    number: str
    title: str
    outcome: str
    behaviour: Behaviour

    @property
    def spaced(self) -> str:
        """The number in groups of four, as on a card."""
        return " ".join(self.number[at : at + 4] for at in range(0, len(self.number), 4))


TEST_CARDS = (
    TestCard("4242424242424242", "Pays", "The payment succeeds", Pays()),
    TestCard(
        "4000000000000002",
        "Declines",
        "Refused; another card may pay",
        Declines("card_declined", "generic_decline", "try_again_later", "Your card was declined."),
    ),
    TestCard("4000002500003155", "Asks for 3-D Secure", "Confirmed at the bank first", Challenges()),
)
BY_NUMBER = {card.number: card for card in TEST_CARDS}


@dataclass(frozen=True)
class Card:
    """A card that may be charged."""

    number: str
    exp_month: int
    exp_year: int

    @property
    def last4(self) -> str:
        """The last four digits, all that Stripe shows of a number."""
        return self.number[-4:]


@dataclass(frozen=True)
class Faults:
    """What is wrong with a card as typed: field name -> sentence for the person."""

    by_field: dict[str, str]


def inspect(number: str, expiry: str, cvc: str, *, year: int, month: int) -> Card | Faults:
    """Return the card that was typed, or what to correct; ``year`` and ``month`` are today's."""
    faults: dict[str, str] = {}
    digits = re.sub(r"[ -]", "", number)
    if not digits:
        faults["number"] = "Enter your card number."
    elif not luhn(digits):
        faults["number"] = "Your card number is invalid."
    elif digits not in BY_NUMBER:
        faults["number"] = "This is a sandbox: please use one of the test cards."
    when = _expiry(expiry)
    if when is None:
        faults["expiry"] = "Enter the expiry date as MM / YY."
    elif when < (year, month):
        faults["expiry"] = "Your card's expiration date is in the past."
    if not re.fullmatch(r"[0-9]{3}", cvc.strip()):
        faults["cvc"] = "Enter the three digits on the back of your card."
    if faults or when is None:
        return Faults(faults)
    return Card(digits, when[1], when[0])


def luhn(digits: str) -> bool:
    """Return whether these digits pass the check that every card number passes (ISO/IEC 7812-1)."""
    if not re.fullmatch(r"[0-9]{12,19}", digits):
        return False
    doubled = [int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0  # noqa: PLR2004 - digit sum


def _expiry(typed: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*(0?[1-9]|1[0-2])\s*/?\s*(?:20)?([0-9]{2})\s*", typed)
    return (2000 + int(match[2]), int(match[1])) if match else None
