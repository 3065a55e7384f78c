"""docs/scaling.md is what its inputs give, and names gauges that there are."""

import math
import re

from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from tests import scaling

PAGE = scaling.PAGE.read_text()


def test_the_table_is_what_the_inputs_give():
    """Whoever changes an input, a topic or a pool writes the page anew: python -m tests.scaling."""
    assert scaling.written(PAGE) == PAGE


def test_ten_times_the_load_takes_ten_times_the_disk():
    """And no more processes than it must: two of each bear the first load."""
    given = scaling.inputs(PAGE)
    one, ten = scaling.demand(given, 1), scaling.demand(given, 10)

    assert math.isclose(ten.topic_bytes, 10 * one.topic_bytes)
    assert math.isclose(ten.inbox_bytes, 10 * one.inbox_bytes)
    assert (one.doors, one.payments_consumers, one.bookings_consumers, one.email_consumers) == (2, 2, 2, 2)
    # By hand: a second's webhooks, payments' and bookings' events, by their bytes, for 14 days, thrice.
    assert math.isclose(one.topic_bytes, (97.5 * 1180 + 42.5 * 710 + 22.5 * 650) * 14 * 86_400 * 3)


def test_the_bench_is_taken_over():
    """The median of its rounds, in the row that it is; what it did not measure stays."""
    page = scaling.measured(PAGE, {"4": [4_000.0, 4_100.0, 9_999.0]})
    given, before = scaling.inputs(page), scaling.inputs(PAGE)

    assert given["payments_events_per_second"] == 4_100
    assert given | {"payments_events_per_second": 0} == before | {"payments_events_per_second": 0}


def test_every_gauge_that_the_page_names_is_measured():
    """A name that nobody exports would be waited for in vain."""
    measured = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    known = {name for one in measured for family in one.describe() for name in (family.name, f"{family.name}_total")}
    rises = PAGE.partition("## What to change first")[2].partition("**PgBouncer")[0]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?:\{[^`]*\})?`", rises))

    assert named - {"max_connections"} <= known
    assert len(named) > 8
