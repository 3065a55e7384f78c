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
    ],
)
def test_amounts_read_as_people_write_them(minor, currency, language, shown):
    """Two, no and three decimals; the customer's language decides signs and places."""
    assert shown == money.spell(minor, currency, language).replace("\xa0", " ")
