"""Quick forms of the fold's proofs, which `make proof` runs longer (tests/proof/fold.py)."""

from tests.proof import fold

SEED = 20_261_124


def test_every_sequence_of_facts_ends_as_its_set():
    """23 facts of one payment's life, each up to twice, in every order of three."""
    proved = fold.every_sequence(3)

    # 1 + n + n² + n³, less those with one fact three times.
    assert proved.cases["sequences"] == 1 + 23 + 23**2 + 23**3 - 23


def test_longer_lives_end_the_same_in_any_order_with_any_copies():
    """A repeated fact changes nothing, and no step takes anything back from a reader."""
    assert fold.beyond(150, seed=SEED).cases["lives"] >= 150
