"""The quick form of the longest proof that `make proof` runs (tests/proof/processes.py): fewer events, fewer kills."""

from tests.proof import processes

SEED = 20_261_124
KILLS = 3


async def test_killing_a_payments_consumer_leaves_no_payment_booking_or_letter_wrong(pipeline, engine, kafka):
    """Disorder, copies and forgeries at the door, one of two payments consumers dying: all ends as the oracle says."""
    proved = await processes.while_killed(pipeline, engine, kafka, seed=SEED, events=300, kills=KILLS)

    assert proved.cases["kills"] == KILLS
    assert proved.cases["letters"] > 0
