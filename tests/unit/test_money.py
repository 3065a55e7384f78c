"""Money: integers of minor units, decimals at the edge, prices rounded half up to what a currency can be charged in."""

from decimal import Decimal

import msgspec
import pytest
from babel.numbers import list_currencies
from hypothesis import given
from hypothesis import strategies as st

from consumers.email import compose
from deploy.dev.stripe import money as stripes
from ingress import answers
from shared.domain import money

CURRENCIES = ["USD", "EUR", "JPY", "KRW", "KWD", "ISK", "UGX", "usd"]
RATES = st.decimals(min_value=0, max_value=10_000, places=2)


@pytest.mark.parametrize(
    ("rate", "minutes", "currency", "minor"),
    [
        ("75.00", 60, "USD", 7500),
        ("75.00", 45, "USD", 5625),
        ("0.01", 30, "USD", 1),  # half a cent goes up
        ("0.01", 29, "USD", 0),
        ("33.33", 90, "EUR", 5000),  # 49.995
        ("100.00", 20, "USD", 3333),
        ("8000.00", 60, "JPY", 8000),
        ("8000.50", 60, "JPY", 8001),
        ("8000.00", 45, "jpy", 6000),
        ("12.34", 60, "KWD", 12340),
        ("12.34", 50, "KWD", 10280),  # 10283.33 in steps of ten
        ("0.01", 30, "KWD", 10),  # 5 of a thousandth, half of the step of ten
        ("1000.00", 60, "ISK", 100_000),
        ("999.50", 60, "ISK", 100_000),  # whole krónur only
        ("999.49", 60, "UGX", 99_900),
        ("75.00", 0, "USD", 0),
    ],
)
def test_a_price_is_rounded_half_up_to_the_step(rate, minutes, currency, minor):
    """The hourly rate by the minute, as the currency can be charged."""
    assert money.price_minor(Decimal(rate), minutes, currency) == minor


@given(rate=RATES, minutes=st.integers(0, 1440), currency=st.sampled_from(CURRENCIES))
def test_a_price_is_a_multiple_of_the_step_within_half_a_step(rate, minutes, currency):
    """No rounding error is ever larger than what rounding must cost."""
    counted = money.scale(currency)
    price = money.price_minor(rate, minutes, currency)
    exact = rate * minutes * 10**counted.decimals / 60

    assert isinstance(price, int)
    assert price % counted.step_minor == 0
    assert abs(price - exact) <= Decimal(counted.step_minor) / 2


@given(rate=RATES, minutes=st.integers(0, 700), more=st.integers(0, 700), currency=st.sampled_from(CURRENCIES))
def test_longer_sessions_never_cost_less(rate, minutes, more, currency):
    """Rounding keeps the order of prices."""
    assert money.price_minor(rate, minutes, currency) <= money.price_minor(rate, minutes + more, currency)


@given(minor=st.integers(0, 10**12), currency=st.sampled_from(CURRENCIES))
def test_minor_units_and_decimals_are_one_amount(minor, currency):
    """There and back, with exactly the currency's decimals."""
    shown = money.to_decimal(minor, currency)

    assert money.nearest_minor(shown, currency) == minor
    assert -shown.as_tuple().exponent == money.scale(currency).decimals


@pytest.mark.parametrize(
    ("minor", "currency", "wire"),
    [
        (7500, "USD", b"75.00"),
        (7, "EUR", b"0.07"),
        (0, "USD", b"0.00"),
        (8000, "JPY", b"8000"),
        (5120, "KWD", b"5.120"),
        (123_400, "ISK", b"1234.00"),
        (9_007_199_254_740_993, "JPY", b"9007199254740993"),
        (9_007_199_254_740_993, "USD", b"90071992547409.93"),
        (1_000_000_000_000_000_000_000, "JPY", b"1000000000000000000000"),
    ],
)
def test_an_amount_on_the_wire_never_passed_through_a_float(minor, currency, wire):
    """Digit by digit with the currency's decimals, also where a float has no such number, and never with an exponent."""
    assert msgspec.json.encode({"amount": answers.amount(minor, currency)}) == b'{"amount":' + wire + b"}"


def test_no_currency_is_counted_otherwise_than_the_sandbox_counts_it():
    """Two tables from one page of Stripe's, typed by two hands: decimals and step of every currency there is."""
    ours = {currency: money.scale(currency) for currency in list_currencies()}
    theirs = {
        currency: money.Scale(-stripes.decimal(1, currency.lower()).as_tuple().exponent, stripes.step(currency.lower()))
        for currency in ours
    }

    assert ours == theirs


def test_no_currency_is_shown_otherwise_than_the_sandbox_shows_it():
    """What the page asks for is what the letter confirms, to the last decimal."""
    ours = {currency: compose.amount(1_234_500, currency) for currency in list_currencies()}

    assert ours == {currency: stripes.spell(1_234_500, currency.lower()) for currency in ours}


def test_currencies_are_counted_as_stripe_counts_them():
    """Three-decimal amounts are multiples of ten; ISK and UGX are told with two decimals that are 00."""
    assert money.scale("JPY") == money.Scale(0, 1)
    assert money.scale("KWD") == money.Scale(3, 10)
    assert money.scale("ISK") == money.scale("UGX") == money.Scale(2, 100)
    assert money.scale("usd") == money.scale("XXX") == money.Scale(2, 1)
