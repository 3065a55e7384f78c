"""Fixtures of the journeys: a pipeline on the test's own database, topics and mailbox."""

import pytest

from tests import browsers
from tests.journey.pipeline import opened


@pytest.fixture
async def pipeline(database, kafka, tmp_path):
    """The four processes, not started yet."""
    async with opened(database=database, kafka=kafka, folder=tmp_path) as made:
        yield made


@pytest.fixture
async def browser():
    """A headless Chromium; CB_REQUIRE_BROWSER makes its absence a failure instead of a skip."""
    async with browsers.launched() as launched:
        yield launched
