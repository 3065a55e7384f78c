"""Money is an integer of minor units next to its currency; decimals exist only at the edges.

Source of the table: Stripe, "Supported currencies", https://docs.stripe.com/currencies (zero-decimal, three-decimal and
special cases). An exponent belongs to (currency, Stripe), not to ISO 4217: Stripe takes ISK and UGX with two decimals
that must be 00, and three-decimal amounts as multiples of ten.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

MINUTES_PER_HOUR = 60


@dataclass(frozen=True, slots=True)
class Scale:
    """How a currency is counted: decimals of its display, and the smallest step in minor units that Stripe charges."""

    decimals: int
    step_minor: int


TWO_DECIMALS = Scale(decimals=2, step_minor=1)
SCALES: dict[str, Scale] = (
    dict.fromkeys("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(), Scale(decimals=0, step_minor=1))
    | dict.fromkeys("BHD JOD KWD OMR TND".split(), Scale(decimals=3, step_minor=10))
    | dict.fromkeys("ISK UGX".split(), Scale(decimals=2, step_minor=100))
)


def scale(currency: str) -> Scale:
    """Return how `currency` (ISO code, any case) is counted; two decimals unless the table says otherwise."""
    return SCALES.get(currency.upper(), TWO_DECIMALS)


def to_decimal(amount_minor: int, currency: str) -> Decimal:
    """Return minor units as a decimal with exactly the currency's decimals: (7500, "USD") is 75.00."""
    return Decimal(amount_minor).scaleb(-scale(currency).decimals)


def nearest_minor(amount: Decimal, currency: str) -> int:
    """Return an amount of the older application in minor units; it may be finer than its currency counts (41.65 JPY)."""
    return int(amount.scaleb(scale(currency).decimals).to_integral_value(ROUND_HALF_UP))


def price_minor(hourly_rate: Decimal, duration_minutes: int, currency: str) -> int:
    """Return the price of a session in minor units: the hourly rate by the minute, rounded half up to the currency's step."""
    counted = scale(currency)
    steps_per_unit = Decimal(10**counted.decimals) / counted.step_minor
    steps = (hourly_rate * duration_minutes * steps_per_unit / MINUTES_PER_HOUR).quantize(Decimal(1), ROUND_HALF_UP)
    return int(steps) * counted.step_minor
