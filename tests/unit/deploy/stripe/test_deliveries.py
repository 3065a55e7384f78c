"""Every event is owed until a 2xx, for three days, and disturbed only as told."""

import math
import random

import pytest

from deploy.dev.stripe.deliveries import KEEP_TRYING_SECONDS, Attempt, Switches, plan
from deploy.dev.stripe.faults import Fault

EVENTS = [{"id": f"evt_{number}", "pending_webhooks": 1} for number in range(20)]


def answered(status):
    return Attempt(at=0, status=status, error=None, latency_ms=1)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_2xx_delivers(status):
    """The body of an answer does not matter, nor which 2xx it is."""
    [delivery] = plan(EVENTS[:1], "we_1", Switches(), random.Random(0), now=0)
    delivery.record(answered(status), (1,), now=0)

    assert delivery.state == "delivered"


def test_failures_climb_the_schedule_and_then_repeat_its_last_step():
    """A door that is closed for a minute, or a day, loses nothing."""
    [delivery] = plan(EVENTS[:1], "we_1", Switches(), random.Random(0), now=0)
    now, waits = 0.0, []
    while delivery.state == "pending":
        delivery.record(answered(302), (1, 2, 4), now=now)
        waits.append(delivery.due_at - now)
        now = delivery.due_at

    assert waits[:5] == [1, 2, 4, 4, 4]
    assert delivery.state == "given_up"
    assert now > KEEP_TRYING_SECONDS


def test_switches_add_copies_and_shuffle_within_their_window():
    """Each event comes three times, none before the delay, none after the window."""
    owed = plan(EVENTS, "we_1", Switches(duplicates=2, delay_ms=100, reorder_ms=400), random.Random(1), now=5)
    by_arrival = [delivery.event_id for delivery in sorted(owed, key=lambda each: each.due_at)]

    assert sorted(by_arrival) == sorted([event["id"] for event in EVENTS] * 3)
    assert all(5.1 <= delivery.due_at <= 5.5 for delivery in owed)
    assert by_arrival != [delivery.event_id for delivery in owed]
    assert len({delivery.id for delivery in owed}) == 60


@pytest.mark.parametrize(
    "words",
    [
        {"duplicates": 101},
        {"twins": 101},
        {"delay_ms": 4 * 24 * 3600 * 1000},
        {"reorder_ms": -1},
        {"duplicate_share": math.nan},
        {"retry_schedule_seconds": ()},
        {"retry_schedule_seconds": (1.0, math.nan)},
        {"retry_schedule_seconds": (math.inf,)},
    ],
)
def test_a_number_that_makes_no_sense_switches_nothing(words):
    """No number at all, or one that would fill the memory or never come to its end."""
    with pytest.raises(ValueError, match=next(iter(words))):
        Switches(**words)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0, 1e300])
def test_a_fault_hangs_for_a_day_at_most(seconds):
    """And for some time at least."""
    with pytest.raises(ValueError, match="seconds"):
        Fault(route="POST /v1/refunds", kind="hang_before", seconds=seconds)
