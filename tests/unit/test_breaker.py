"""The breaker between us and a mail server that is away, by a clock that the test moves."""

import pytest
from prometheus_client import REGISTRY

from consumers.email.breaker import TRIPPED_SECONDS_MAX, Breaker
from shared import clock


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self):
        self.seconds = 1_000.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def moved(monkeypatch):
    made = Clock()
    monkeypatch.setattr(clock, "monotonic", made.monotonic)
    return made


def told_away():
    """What Prometheus reads."""
    return REGISTRY.get_sample_value("mail_server_away")


@pytest.mark.usefixtures("moved")
def test_the_gauge_is_1_from_the_trip_until_a_letter_is_judged():
    """And says the same as readiness at any time."""
    made = Breaker()
    assert (told_away(), made.reason) == (0, None)

    made.trip("421 4.3.2")
    assert (told_away(), made.reason) == (1, "421 4.3.2")

    made.close()
    assert (told_away(), made.reason) == (0, None)


def test_old_news_is_nobodys_for_the_gauge_too(moved):
    """A rebalance took the batch, and nobody here will ever close it: the alert would go on for ever."""
    made = Breaker()
    made.trip("421 4.3.2")
    moved.seconds += TRIPPED_SECONDS_MAX - 1
    assert (told_away(), made.reason) == (1, "421 4.3.2")

    moved.seconds += 2
    assert (told_away(), made.reason) == (0, None)

    made.trip("connection refused")
    assert (told_away(), made.reason) == (1, "connection refused")
