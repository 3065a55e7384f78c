"""Fixtures of the journeys: a pipeline on the test's own database, topics and mailbox."""

import pytest
import pytest_asyncio

from tests.journey.pipeline import opened
from tests.support import browsers


@pytest.fixture
async def pipeline(database, kafka, tmp_path):
    """The four processes, not started yet."""
    async with opened(database=database, kafka=kafka, folder=tmp_path) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium():
    """One headless Chromium for all tests of a worker; CB_REQUIRE_BROWSER makes its absence a failure instead of a skip."""
    async with browsers.launched() as launched:
        yield launched


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium):
    """The worker's Chromium without anybody's pages; a test that uses it is of its loop, the session's."""
    yield chromium
    for context in chromium.contexts:
        await context.close()
