"""The bad days of `make chaos-letters` in short: what must hold at any length, without a bound on time."""

import pytest

from tests.chaos import cases
from tests.journey.pipeline import opened
from tests.support import certificates


@pytest.fixture
async def publish(kafka, pipeline):
    async with cases.publishing(pipeline, kafka) as made:
        yield made


async def test_a_full_mailbox_is_tried_six_times_and_delays_nobody(pipeline, publish, engine):
    """No retry before its time; every other letter arrives meanwhile."""
    late, took = await cases.full_mailbox(pipeline, engine, publish, others=10, seconds=1)

    assert len(late) == 5
    assert len(took) == 10


async def test_a_server_that_is_away_and_a_wrong_password_lose_nothing(database, kafka, engine, tmp_path):
    """Both are told by readiness; no attempt ends in a dead letter, nobody is told twice, and all are told."""
    certificate = certificates.make(tmp_path)
    tls = certificates.serving(certificate)
    async with (
        opened(database=database, kafka=kafka, folder=tmp_path, tls=tls, login=cases.LOGIN) as pipeline,
        cases.publishing(pipeline, kafka) as publish,
    ):
        ledger, _ = await cases.away(
            pipeline, engine, publish, certificate, down_seconds=1, password_seconds=1, bookings_per_second=2
        )

    assert ledger.attempts_max == 1


async def test_kills_lose_no_letter_and_count_what_may_have_come_twice(pipeline, publish, engine):
    """Three kills under load: all that are due arrive, second copies only of what was in flight, nobody else hears anything."""
    ledger, _ = await cases.killed(
        pipeline, engine, publish, kills=3, bookings_per_second=20, seed=1, leases_end_with_their_holder=True
    )

    assert ledger.states["sent"] > 0
