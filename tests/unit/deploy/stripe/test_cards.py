"""Only cards that could be cards are played, and a person is told what to correct."""

import pytest

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
        (("5555555555554444", "12/34", "123"), {"number"}),
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
