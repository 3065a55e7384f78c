"""Who comes, when, with which cards, and what they do, drawn from the seed; pure.

Enters: a seed, a rate, a duration. Leaves: coaches and customers, the same for the same words on every machine. A person is
drawn from the seed and their number alone, so that a longer run begins with the persons of a shorter one. Next: customer.py
plays a visit, support.py what the shop does afterwards.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import count

from deploy.dev.stripe import cards, disputes
from deploy.dev.stripe.cards import Challenges, Debits, Declines, Pays, TestCard

# With these steps a price and its tenths are whole amounts of every currency, also where Stripe counts in steps of ten.
MINUTES = (30, 45, 60, 90)
RATE_STEP_MINOR = {"USD": 400, "EUR": 400, "GBP": 400, "JPY": 400, "KWD": 4000}
RATE_STEPS = (5, 30)
DECIMALS = {"USD": 2, "EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3}
COACHES = ("USD", "USD", "EUR", "EUR", "GBP", "JPY", "KWD")
TENTHS = 10
DEBIT_SHARE = 0.3  # of those whose coach takes euros
FIRST_NAMES = (
    "Amara",
    "Björn",
    "Chiamaka",
    "Darragh",
    "Eun-ji",
    "Fatima",
    "Giáng",
    "Hōshi",
    "Ines",
    "Jürgen",
    "Khadija",
    "Łucja",
)
LAST_NAMES = ("O'Neill", "Okafor", "Straße", "de la Cruz", "Nguyễn", "Østergård", "Smith-Jones", "Tanaka", "Ünal", "Żak")
ZONES = ("Africa/Lagos", "America/Sao_Paulo", "Asia/Tokyo", "Asia/Kolkata", "Europe/Oslo", "Pacific/Auckland", "UTC")


class AtBank(StrEnum):
    """What a customer does at the bank's page of 3-D Secure."""

    COMPLETE = "complete"
    FAIL = "fail"
    LEAVE = "leave"


class Ending(StrEnum):
    """How a visit to the checkout ends."""

    PAID = "paid"
    GAVE_UP = "gave_up"  # after attempts that failed; the session stays open
    LEFT = "left"  # without an attempt, or at the bank's page
    EXPIRED = "expired"  # left, and then the shop ended the session
    DEBIT_FAILED = "debit_failed"  # the bank sent the debit back


@dataclass(frozen=True)
class Attempt:
    """One press of Pay: with which test card or account, and what happens at the bank if it asks."""

    number: str
    at_bank: AtBank | None = None

    @property
    def by_debit(self) -> bool:
        """Whether an account is debited instead of a card."""
        return self.number in cards.BY_IBAN


@dataclass(frozen=True)
class Visit:
    """One checkout: attempts one after the other, the last of which leads to the ending. In `tabs` tabs at once."""

    attempts: tuple[Attempt, ...]
    ending: Ending
    tabs: int = 1


@dataclass(frozen=True)
class GiveBack:
    """The shop refunds so much, in minor units."""

    amount_minor: int
    reason: str


@dataclass(frozen=True)
class Answer:
    """The shop answers the dispute with evidence that decides it: `winning_evidence` or `losing_evidence`."""

    evidence: str


@dataclass(frozen=True)
class Accept:
    """The shop accepts the dispute as lost."""


@dataclass(frozen=True)
class Wait:
    """The shop sees the dispute and does nothing about it."""


Act = GiveBack | Answer | Accept | Wait


@dataclass(frozen=True)
class Coach:
    """Who is booked; `rate_minor` for an hour."""

    number: int
    first_name: str
    last_name: str
    timezone: str
    currency: str
    rate_minor: int

    @property
    def hourly_rate(self) -> Decimal:
        """The rate as the older application keeps it."""
        return Decimal(self.rate_minor).scaleb(-DECIMALS[self.currency])


@dataclass(frozen=True)
class Person:
    """One customer with one booking, who comes `arrives_seconds` after the beginning.

    `hasty`: the shop acts the moment Stripe has the money, before its own page shows it.
    """

    number: int
    arrives_seconds: float
    first_name: str
    last_name: str
    timezone: str
    coach: Coach
    minutes: int
    visits: tuple[Visit, ...]
    acts: tuple[Act, ...]
    hasty: bool

    @property
    def price_minor(self) -> int:
        """What the booking costs, counted without the product's own arithmetic."""
        return price_minor(self.coach, self.minutes)

    @property
    def refunds_come_back(self) -> bool:
        """Whether what the shop gives back comes back after a while: the card that paid is gone by then."""
        return any(_behaviour(visit.attempts[-1]) == Pays("refunds_fail") for visit in self.visits if visit.attempts)


@dataclass(frozen=True)
class Crowd:
    """Everybody of one simulation."""

    coaches: tuple[Coach, ...]
    persons: tuple[Person, ...]


def price_minor(coach: Coach, minutes: int) -> int:
    """Return what so many minutes with this coach cost, in minor units of their currency."""
    return coach.rate_minor * minutes // 60


def draw(seed: int, *, rate: float, seconds: float) -> Crowd:
    """Return who comes within so many seconds, at `rate` customers a second on average."""
    coaches = tuple(_coach(number, currency, _dice(seed, f"coach {number}")) for number, currency in enumerate(COACHES))
    persons: list[Person] = []
    arrives_seconds = 0.0
    for number in count(1):
        dice = _dice(seed, f"person {number}")
        arrives_seconds += dice.expovariate(1) / rate
        if arrives_seconds >= seconds:
            return Crowd(coaches, tuple(persons))
        persons.append(_person(number, arrives_seconds, coaches, dice))
    raise AssertionError("numbers do not end")


def _dice(seed: int, whose: str) -> random.Random:
    return random.Random(f"{seed}/{whose}")  # noqa: S311 - a world that can be drawn again, no secret


def _coach(number: int, currency: str, dice: random.Random) -> Coach:
    rate_minor = RATE_STEP_MINOR[currency] * dice.randint(*RATE_STEPS)
    return Coach(number, dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES), dice.choice(ZONES), currency, rate_minor)


def _person(number: int, arrives_seconds: float, coaches: Sequence[Coach], dice: random.Random) -> Person:
    coach, minutes = dice.choice(coaches), dice.choice(MINUTES)
    visits = _visits(coach, dice)
    acts = _acts(price_minor(coach, minutes), visits[-1], dice)
    names = (dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES), dice.choice(ZONES))
    # Money of a debit is not there yet when its customer goes.
    hasty = bool(acts) and not visits[-1].attempts[-1].by_debit and dice.random() < 1 / 3
    return Person(number, arrives_seconds, *names, coach, minutes, visits, acts, hasty)


def _visits(coach: Coach, dice: random.Random) -> tuple[Visit, ...]:
    if coach.currency == "EUR" and dice.random() < DEBIT_SHARE:
        account = dice.choice(cards.SEPA_ACCOUNTS)
        ending = Ending.PAID if account.look == "pays" else Ending.DEBIT_FAILED
        debit = Visit((Attempt(account.number),), ending)
        # Whose debit came back may pay anew, with a card.
        return (debit, _paying(dice)) if ending is Ending.DEBIT_FAILED and dice.random() < 1 / 2 else (debit,)
    match dice.choices((Ending.PAID, Ending.GAVE_UP, Ending.LEFT, Ending.EXPIRED), weights=(72, 10, 10, 8))[0]:
        case Ending.GAVE_UP:
            return (Visit(_failures(dice, least=1), Ending.GAVE_UP),)
        case Ending.LEFT:
            return (Visit(_leaving(dice), Ending.LEFT),)
        case Ending.EXPIRED:
            ended = Visit(_leaving(dice), Ending.EXPIRED)
            return (ended, _paying(dice)) if dice.random() < 1 / 2 else (ended,)
        case _:
            return (_paying(dice, tabs_max=2),)


def _paying(dice: random.Random, *, tabs_max: int = 1) -> Visit:
    tabs = tabs_max if dice.random() < 1 / 8 else 1
    # In two tabs one of them pays while the other is on its way: which failures came first would be chance.
    failures = _failures(dice, least=0) if tabs == 1 else ()
    plain = [card for card in cards.TEST_CARDS if card.behaviour == Pays()]
    asking = [card for card in cards.TEST_CARDS if card.behaviour == Challenges(Pays())]
    special = [card for card in cards.TEST_CARDS if isinstance(card.behaviour, Pays) and card.behaviour.aftermath]
    [cards_] = dice.choices((plain, asking, special), weights=(60, 18, 22))
    return Visit((*failures, _attempt(dice.choice(cards_), AtBank.COMPLETE)), Ending.PAID, tabs)


def _failures(dice: random.Random, *, least: int) -> tuple[Attempt, ...]:
    [many] = dice.choices((0, 1, 2), weights=(75, 18, 7))
    failing = [
        card
        for card in cards.TEST_CARDS
        if isinstance(card.behaviour, Declines | Challenges) and card.behaviour != Challenges(Pays())
    ]
    asking = [card for card in cards.TEST_CARDS if card.behaviour == Challenges(Pays())]
    return tuple(
        _attempt(dice.choice(asking), AtBank.FAIL) if dice.random() < 1 / 4 else _attempt(dice.choice(failing), AtBank.COMPLETE)
        for _ in range(max(least, many))
    )


def _leaving(dice: random.Random) -> tuple[Attempt, ...]:
    """Leave the page as it is, after a decline, or at the bank's."""
    failures = _failures(dice, least=0)
    asking = [card for card in cards.TEST_CARDS if isinstance(card.behaviour, Challenges)]
    at_bank = (_attempt(dice.choice(asking), AtBank.LEAVE),) if dice.random() < 1 / 3 else ()
    return (*failures, *at_bank)


def _attempt(card: TestCard, at_bank: AtBank) -> Attempt:
    return Attempt(card.number, at_bank if isinstance(card.behaviour, Challenges) else None)


def _acts(price: int, last: Visit, dice: random.Random) -> tuple[Act, ...]:
    """Return what the shop does once it is paid; amounts are tenths of the price."""
    if last.ending is not Ending.PAID:
        return ()
    match _behaviour(last.attempts[-1]):
        case Pays(aftermath="chargeback" | "inquiry"):
            kinds: tuple[Act, ...] = (Answer(disputes.WINNING), Answer(disputes.LOSING), Accept(), Wait())
            return (dice.choice(kinds),)
        case Pays(aftermath="refunds_fail"):
            # One alone: of two, whether both were given back at one moment would be chance.
            return _parts(price, [dice.choice((TENTHS, dice.randint(1, TENTHS - 1)))], dice)
        case Pays(aftermath="refunds_wait"):
            return _parts(price, _split(dice), dice)
        case _ if dice.random() < 1 / 3:
            return _parts(price, _split(dice), dice)
        case _:
            return ()


def _behaviour(attempt: Attempt) -> Pays | Declines:
    behaviour = cards.BY_FINGERPRINT[cards.fingerprint(attempt.number)]
    return behaviour.then if isinstance(behaviour, Challenges | Debits) else behaviour


def _split(dice: random.Random) -> list[int]:
    """Return how many tenths go back each time: all at once, or in up to three parts, all of it or less."""
    if dice.random() < 1 / 3:
        return [TENTHS]
    cuts = sorted(dice.sample(range(1, TENTHS + 1), dice.randint(1, 3)))
    return [after - before for before, after in zip((0, *cuts), cuts, strict=False)]


def _parts(price: int, tenths: Sequence[int], dice: random.Random) -> tuple[Act, ...]:
    reasons = ("requested_by_customer", "duplicate", "fraudulent")
    return tuple(GiveBack(price // TENTHS * many, dice.choice(reasons)) for many in tenths)
