"""What a customer may pay with: which numbers are cards at all, and what each test card or account does. Pure.

Numbers and outcomes are those of docs.stripe.com/testing. Next: ``payments`` plays them.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, assert_never

from deploy.dev.stripe import brands

# What happens to a paid charge later, all by itself.
Aftermath = Literal["chargeback", "inquiry", "refunds_wait", "refunds_fail"]


@dataclass(frozen=True)
class Pays:
    """The bank says yes; something may follow."""

    aftermath: Aftermath | None = None


@dataclass(frozen=True)
class Declines:
    """The bank says no, with Stripe's words for it. Some codes come without a decline code, a debit's comes without a code."""

    code: str | None
    decline_code: str | None
    advice_code: str | None
    message: str


@dataclass(frozen=True)
class Challenges:
    """The bank asks for 3-D Secure first; ``then`` is what it says to a customer who passed."""

    then: Pays | Declines


@dataclass(frozen=True)
class Debits:
    """The bank says nothing yet: the money comes, or does not, days later."""

    then: Pays | Declines


Behaviour = Pays | Declines | Challenges | Debits


@dataclass(frozen=True)
class TestCard:
    """A number with its behaviour, and what a person reads beside it.

    ``token`` names it in ``tok_…`` and ``pm_card_…``, as in Stripe's own test helpers.
    """

    number: str
    token: str
    title: str
    outcome: str
    behaviour: Behaviour

    @property
    def brand(self) -> brands.Brand | None:
        """The network of a card; a bank account has none."""
        return brands.of(self.number)

    @property
    def spaced(self) -> str:
        """The number as it stands on the card, or in groups of four as in a bank's letter."""
        brand = self.brand
        return brand.spaced(self.number) if brand else " ".join(re.findall(".{1,4}", self.number))

    @property
    def cvc(self) -> str:
        """A code that this card takes."""
        return "1234"[: self.brand.cvc_digits] if self.brand else ""

    @property
    def look(self) -> Literal["pays", "declines", "asks"]:
        """How it ends, at a glance."""
        if isinstance(self.behaviour, Challenges):
            return "asks"
        end = self.behaviour.then if isinstance(self.behaviour, Debits) else self.behaviour
        return "pays" if isinstance(end, Pays) else "declines"

    @property
    def group(self) -> str:
        """Under which heading a person looks for it."""
        match self.behaviour:
            case Pays(None):
                return "Succeed"
            case Pays():
                return "Succeed, and then"
            case Declines():
                return "Are refused"
            case Challenges():
                return "Ask for 3-D Secure"
            case Debits():
                return "Bank accounts"
            case _ as never:
                assert_never(never)


GENERIC = Declines("card_declined", "generic_decline", "try_again_later", "Your card was declined.")
NO_FUNDS = Declines("card_declined", "insufficient_funds", "try_again_later", "Your card has insufficient funds.")
LOST = Declines("card_declined", "lost_card", "do_not_try_again", "Your card was declined.")
STOLEN = Declines("card_declined", "stolen_card", "do_not_try_again", "Your card was declined.")
EXPIRED = Declines("expired_card", None, "do_not_try_again", "Your card has expired.")
WRONG_CVC = Declines("incorrect_cvc", None, "confirm_card_data", "Your card's security code is incorrect.")
BROKEN = Declines(
    *("processing_error", None, "try_again_later"),
    "An error occurred while processing your card. Try again in a little bit.",
)
RETURNED = Declines(None, "generic_decline", None, "The customer's bank could not process the payment.")

TEST_CARDS = (
    TestCard("4242424242424242", "visa", "Pays", "Visa", Pays()),
    TestCard("5555555555554444", "mastercard", "Mastercard", "Succeeds", Pays()),
    TestCard("378282246310005", "amex", "American Express", "Four-digit CVC", Pays()),
    TestCard("6011111111111117", "discover", "Discover", "Succeeds", Pays()),
    TestCard("3056930009020004", "diners", "Diners Club", "Succeeds", Pays()),
    TestCard("3566002020360505", "jcb", "JCB", "Succeeds", Pays()),
    TestCard("6200000000000005", "unionpay", "UnionPay", "Succeeds", Pays()),
    TestCard("4000000000000002", "chargeDeclined", "Declines", "generic_decline", GENERIC),
    TestCard("4000000000009995", "chargeDeclinedInsufficientFunds", "Too little money", "insufficient_funds", NO_FUNDS),
    TestCard("4000000000009987", "chargeDeclinedLostCard", "Lost", "lost_card", LOST),
    TestCard("4000000000009979", "chargeDeclinedStolenCard", "Stolen", "stolen_card", STOLEN),
    TestCard("4000000000000069", "chargeDeclinedExpiredCard", "Expired", "expired_card", EXPIRED),
    TestCard("4000000000000127", "chargeDeclinedIncorrectCvc", "Wrong CVC", "incorrect_cvc", WRONG_CVC),
    TestCard("4000000000000119", "chargeDeclinedProcessingError", "Bank out of order", "processing_error", BROKEN),
    TestCard("4000002500003155", "authenticationRequiredOnSetup", "3-D Secure", "You choose how it ends", Challenges(Pays())),
    TestCard("4000002760003184", "authenticationRequired", "Asks always", "You choose how it ends", Challenges(Pays())),
    TestCard("4000000000003220", "threeDSecure2Required", "Must ask", "You choose how it ends", Challenges(Pays())),
    TestCard(
        *("4000008400001629", "threeDSecureRequiredChargeDeclined", "Asks, then refuses"),
        *("After Complete", Challenges(GENERIC)),
    ),
    TestCard("4000000000000259", "createDispute", "Charged back", "A dispute a second later", Pays("chargeback")),
    TestCard("4000000000001976", "createDisputeInquiry", "Asked about", "An inquiry a second later", Pays("inquiry")),
    TestCard("4000000000007726", "pendingRefund", "Slow refunds", "Pending for two seconds", Pays("refunds_wait")),
    TestCard("4000000000005126", "refundFail", "Failing refunds", "Come back later", Pays("refunds_fail")),
)
SEPA_ACCOUNTS = (
    TestCard("AT611904300234573201", "sepa", "Arrives", "Processing, then succeeds", Debits(Pays())),
    TestCard("AT861904300235473202", "sepaFails", "Returned", "Processing, then fails", Debits(RETURNED)),
    TestCard("IT60X0542811101000000123456", "sepaReturned", "Returned", "From Italy", Debits(RETURNED)),
)
BY_NUMBER = {card.number: card for card in TEST_CARDS}
BY_TOKEN = {card.token: card for card in TEST_CARDS}
BY_IBAN = {account.number: account for account in SEPA_ACCOUNTS}


def fingerprint(number: str) -> str:
    """Return the sixteen characters that are the same for the same card or account."""
    return hashlib.sha256(number.encode()).hexdigest()[:16]


BY_FINGERPRINT = {fingerprint(one.number): one.behaviour for one in (*TEST_CARDS, *SEPA_ACCOUNTS)}


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

    @property
    def brand(self) -> brands.Brand:
        """Its network; every card that may be charged has one."""
        brand = brands.of(self.number)
        assert brand is not None
        return brand


@dataclass(frozen=True)
class BankAccount:
    """An account that may be debited."""

    iban: str


@dataclass(frozen=True)
class Faults:
    """What is wrong with what was typed: field name -> sentence for the person."""

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
    code_digits = (brands.of(digits) or brands.VISA).cvc_digits
    if not re.fullmatch(rf"[0-9]{{{code_digits}}}", cvc.strip()):
        where = {3: "three digits on the back", 4: "four digits on the front"}[code_digits]
        faults["cvc"] = f"Enter the {where} of your card."
    if faults or when is None:
        return Faults(faults)
    return Card(digits, when[1], when[0])


def inspect_iban(typed: str) -> BankAccount | Faults:
    """Return the account that was typed, or what to correct."""
    iban = typed.replace(" ", "").upper()
    if not is_iban(iban):
        return Faults({"iban": "Your IBAN is invalid."})
    if iban not in BY_IBAN:
        return Faults({"iban": "This is a sandbox: please use one of the test accounts."})
    return BankAccount(iban)


def luhn(digits: str) -> bool:
    """Return whether these digits pass the check that every card number passes (ISO/IEC 7812-1)."""
    if not re.fullmatch(r"[0-9]{12,19}", digits):
        return False
    doubled = [int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0  # noqa: PLR2004 - digit sum


def is_iban(text: str) -> bool:
    """Return whether these characters pass the check that every IBAN passes (ISO 13616)."""
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def _expiry(typed: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*(0?[1-9]|1[0-2])\s*/?\s*(?:20)?([0-9]{2})\s*", typed)
    return (2000 + int(match[2]), int(match[1])) if match else None
