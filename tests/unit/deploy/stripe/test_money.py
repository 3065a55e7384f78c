"""Amounts are shown in the currency's own decimals."""

import pytest

from deploy.dev.stripe import money


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
