"""Every test of the sandbox's inside is watched by what Stripe publishes of its shapes."""

import pytest

from tests.referees import watch


@pytest.fixture(autouse=True, scope="session")
def referee():
    """Judge each answer, refusal and event of these tests where it is born."""
    with watch.at_once():
        yield
