"""What other people typed, made fit for a letter: one visible line, no link, nothing lost of an honest name."""

import re

import pytest

from consumers.email import names
from tests.support.names import HOSTILE, REAL


def test_whatever_stands_between_two_words_of_a_name_becomes_one_blank():
    """A line break that somebody typed never runs them together."""
    assert names.clean("Ada\tAugusta\r\nKing\x85\u2028Byron") == "Ada Augusta King Byron"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_clean_name_is_one_visible_line(name):
    """No control character, line break or direction mark is left, no link is made, and the length is bounded."""
    shown = names.clean(name)

    assert shown is not None
    assert len(shown) <= 80
    assert shown.translate(dict.fromkeys(map(ord, names.JOINERS))).isprintable()
    assert "://" not in shown
    assert "@" not in shown
    assert not re.search(r"evil\W*[.\u3002\uff0e\uff61][^\w\s]*example", shown)


@pytest.mark.parametrize("name", REAL)
def test_a_real_name_stays_as_it_is(name):
    """Cleaning is not for honest names."""
    assert names.clean(name) == name
