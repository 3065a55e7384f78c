"""Ids look like Stripe's and repeat with their seed."""

import re

from deploy.dev.stripe.ids import Mint, stem_of


def test_ids_have_the_lengths_of_real_ones():
    """66 characters for a session, 27 for payments, charges and refunds, 28 for events."""
    mint = Mint(1)
    intent = mint.of_payment("pi", mint.stem())

    assert re.fullmatch(r"cs_test_a1[0-9A-Za-z]{56}", mint.session())
    assert re.fullmatch(r"pi_3[0-9A-Za-z]{23}", intent)
    assert re.fullmatch(r"evt_3[0-9A-Za-z]{23}", mint.of_payment("evt", stem_of(intent)))
    assert re.fullmatch(r"evt_1[0-9A-Za-z]{23}", mint.alone("evt"))
    assert intent[3:19] == mint.of_payment("ch", stem_of(intent))[3:19]


def test_the_same_seed_gives_the_same_ids():
    """A run can be repeated; another seed is another world."""
    assert Mint(1).session() == Mint(1).session() != Mint(2).session()


def test_no_id_is_given_twice():
    """Ten thousand wishes, ten thousand ids."""
    mint = Mint(3)

    assert len({mint.alone("pm") for _ in range(10_000)}) == 10_000
