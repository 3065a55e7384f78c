"""The page of proofs tells what was tried, from which seed, and how to try it again."""

from tests.proof.page import page
from tests.proof.result import Proved


def test_the_page_tells_cases_seed_day_and_command():
    """A reader can repeat it."""
    drawn = Proved("Drawn lives", "Of two consumers.", {"payments": 20_000}, seed=7)
    exhaustive = Proved("Every sequence", "Walked.", {"sequences": 149_585_791})
    told = page([(drawn, 61.2), (exhaustive, 120.0)], day="2026-11-24", python="3.11")

    assert "make proof    # about 3 minutes" in told
    assert "Run on 2026-11-24 with Python 3.11" in told
    assert "## Drawn lives\n\nOf two consumers.\n" in told
    assert "| payments | 20,000 |" in told
    assert "Took 61 s; seed 7." in told
    assert "| sequences | 149,585,791 |" in told
