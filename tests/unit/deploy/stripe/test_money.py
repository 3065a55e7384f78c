"""Amounts are shown in the currency's own decimals."""

import pytest

from deploy.dev.stripe import money
from deploy.dev.stripe.errors import ApiError
from tests.support.stripe_offline import OfflineStripe


@pytest.mark.parametrize(
    ("minor", "currency", "language", "shown"),
    [
        (7500, "usd", None, "$75.00"),
        (7500, "jpy", None, "¥7,500"),
        (5120, "kwd", None, "KWD 5.120"),
        (7500, "eur", "de", "75,00 €"),
        (7500, "eur", "pt-BR", "€ 75,00"),
        (7500, "eur", "no such language", "€75.00"),
        (123_456, "rsd", None, "RSD 1,234.56"),  # CLDR shows none of RSD's two decimals, nor those of the next
        (123_456, "rsd", "de", "1.234,56 RSD"),
        (123_456, "lbp", None, "LBP 1,234.56"),
        (123_456, "mmk", None, "MMK 1,234.56"),
        (123_400, "isk", None, "ISK 1,234"),
        (123_400, "ugx", "de", "1.234 UGX"),
    ],
)
def test_amounts_read_as_people_write_them(minor, currency, language, shown):
    """Two, no and three decimals, as Stripe counts them; the customer's language decides signs and places."""
    assert shown == money.spell(minor, currency, language).replace("\xa0", " ")


@pytest.mark.parametrize("code", ["usd", "bgn", "idr", "kwd", "rsd", "ugx", "xcg", "xpf", "zmw"])
def test_what_stripe_charges_in_is_a_currency(code):
    """Two decimals, three and none; the first and the last of Stripe's page."""
    assert money.is_currency(code)


@pytest.mark.parametrize("code", ["dem", "itl", "xxx", "xau", "irr", "kpw", "syp", "cup", "USD", "us", ""])
def test_what_stripe_does_not_charge_in_is_none(code):
    """Money of the past, no money, metal, and money of countries that Stripe does not serve."""
    assert not money.is_currency(code)


def test_every_special_case_is_a_currency():
    """What has decimals, a step or a minimum of its own is charged."""
    assert all(map(money.is_currency, {*money.ZERO_DECIMALS, *money.THREE_DECIMALS, *money.STEPS, *money.MINIMUMS}))
    assert len(set(money.CURRENCIES)) == len(money.CURRENCIES)


def test_a_refused_currency_is_told_which_there_are():
    """In Stripe's words, and by the parameter's name."""
    with pytest.raises(
        ApiError, match=r"Invalid currency: dem\. Stripe currently supports these currencies: usd, aed, .+, zmw$"
    ) as it:
        OfflineStripe(1).call("POST /v1/payment_intents", {"amount": 5000, "currency": "DEM"})

    assert it.value.param == "currency"
