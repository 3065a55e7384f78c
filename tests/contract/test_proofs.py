"""Quick forms of the proofs that `make proof` runs in full (tests/proof): the same code, fewer cases."""

import pytest

from shared.kafka import batch
from tests.proof import permutations, randomly

SEED = 20_261_124


async def test_no_order_of_a_recorded_story_changes_its_end(database, engine):
    """Drawn orders of each, by two consumers at once, with copies and publishing that fails after the commit."""
    proved = await permutations.every_order(database, engine, seed=SEED, sample=12)

    assert proved.cases["stories"] == len(permutations.STORIES)


@pytest.mark.parametrize("is_backlog", [False, True], ids=["batch by batch", "batches divided among transactions"])
async def test_drawn_lives_end_as_the_oracle_says(database, engine, monkeypatch, is_backlog):
    """Disorder, copies, forgeries, losses: payments, bookings, newest messages, ledger and conflicts, without a difference."""
    if is_backlog:
        monkeypatch.setattr(batch, "TRANSACTION_ITEMS_MIN", 2)
        monkeypatch.setattr(batch, "TRANSACTION_ITEMS_MAX", 4)
    proved = await randomly.against_the_oracle(database, engine, seed=SEED, payments=400)

    assert proved.cases["payments"] >= 400
