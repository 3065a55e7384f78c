"""Fixtures of the contract tests."""

import pytest

from tests.sandboxes import listening, opened


@pytest.fixture
async def webhook():
    """A receiver of Stripe's events."""
    async with listening() as webhook:
        yield webhook


@pytest.fixture
async def world(tmp_path, webhook):
    """A Stripe sandbox that tells this webhook."""
    async with opened(tmp_path, webhook) as world:
        yield world
