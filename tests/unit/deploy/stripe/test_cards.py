"""Only cards that could be cards are played, and a person is told what to correct."""

import pytest

from deploy.dev.stripe import brands
from deploy.dev.stripe.cards import TEST_CARDS, Card, Faults, inspect, luhn


def test_every_test_card_is_a_card():
    """The offered numbers pass the check that real ones pass."""
    assert all(luhn(card.number) for card in TEST_CARDS)


@pytest.mark.parametrize("expiry", ["12/34", "12 / 34", "1234", "12/2034", " 12 /34 "])
def test_an_expiry_is_read_as_people_write_it(expiry):
    """Spaces, slashes and centuries do not matter."""
    assert Card("4242424242424242", 12, 2034) == inspect("4242 4242-42424242", expiry, "123", year=2026, month=11)


@pytest.mark.parametrize(
    ("typed", "fields"),
    [
        (("4242424242424241", "12/34", "123"), {"number"}),
        (("4111111111111111", "12/34", "123"), {"number"}),
        (("", "", ""), {"number", "expiry", "cvc"}),
        (("4242424242424242", "10/26", "123"), {"expiry"}),
        (("4242424242424242", "13/30", "123"), {"expiry"}),
        (("4242424242424242", "12/34", "12"), {"cvc"}),
        (("4242424242424242", "12/34", "١٢٣"), {"cvc"}),
    ],
)
def test_a_fault_is_told_beside_its_field(typed, fields):
    """Bad check digit, foreign card, past date, short code: each names its own field."""
    found = inspect(*typed, year=2026, month=11)

    assert isinstance(found, Faults)
    assert fields == set(found.by_field)


def test_a_card_is_good_through_its_last_month():
    """November's card pays in November."""
    assert isinstance(inspect("4242424242424242", "11/26", "123", year=2026, month=11), Card)


@pytest.mark.parametrize(
    ("number", "brand", "spaced", "cvc"),
    [
        ("4242424242424242", "visa", "4242 4242 4242 4242", "123"),
        ("5555555555554444", "mastercard", "5555 5555 5555 4444", "123"),
        ("378282246310005", "amex", "3782 822463 10005", "1234"),
        ("6011111111111117", "discover", "6011 1111 1111 1117", "123"),
        ("3056930009020004", "diners", "3056 9300 0902 0004", "123"),
        ("3566002020360505", "jcb", "3566 0020 2036 0505", "123"),
        ("6200000000000005", "unionpay", "6200 0000 0000 0005", "123"),
    ],
)
def test_a_card_is_known_by_its_first_digits(number, brand, spaced, cvc):
    """Each network groups its digits as on its cards, and has codes of its own length."""
    [card] = [card for card in TEST_CARDS if card.number == number]

    assert (card.brand.code, card.spaced, card.cvc) == (brand, spaced, cvc)
    assert isinstance(inspect(spaced, "12/34", cvc, year=2026, month=11), Card)
    assert inspect(spaced, "12/34", "12345"[: 7 - len(cvc)], year=2026, month=11).by_field.keys() == {"cvc"}


@pytest.mark.parametrize(
    ("start", "brand"),
    [("2220", None), ("2221", "mastercard"), ("2720", "mastercard"), ("2721", None), ("50", None), ("3527", None)],
)
def test_a_range_ends_where_it_ends(start, brand):
    """The first number after a range is of nobody whom we know."""
    assert getattr(brands.of(start), "code", None) == brand
