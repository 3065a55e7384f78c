"""The table: what is measured, in which unit, and what is asked of it.

Enters: a figure a round for each row. Leaves: medians beside their goals. Next: measures.py makes the figures,
page.py prints them.
"""

import statistics
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Row:
    """One line; `goal` is asked of the median, as a lower bound when more is better, else as an upper one."""

    number: str
    name: str
    unit: str
    goal: float
    better: Literal["more", "less"] = "more"
    digits: int = 0
    figures: list[float] = field(default_factory=list)

    @property
    def median(self):
        return statistics.median(self.figures)

    @property
    def is_met(self):
        return self.median >= self.goal if self.better == "more" else self.median <= self.goal

    @property
    def ratio(self):
        """How far the goal is reached: 1 and more is met."""
        return self.median / self.goal if self.better == "more" else self.goal / self.median

    def spelled(self, figure):
        return f"{figure:,.{self.digits}f}{f' {self.unit}' if self.unit else ''}"

    def cells(self):
        """Number, what, goal, median, spread, ratio, verdict."""
        sign = "≥" if self.better == "more" else "≤"
        spread = f"{min(self.figures):,.{self.digits}f} … {max(self.figures):,.{self.digits}f}"
        verdict = "met" if self.is_met else "missed"
        goal = f"{sign} {self.spelled(self.goal)}"
        return [self.number, self.name, goal, self.spelled(self.median), spread, f"{self.ratio:.2f}", verdict]


def table():
    """Return the rows, without figures."""
    return {
        row.number: row
        for row in (
            Row("1", "the door, one process, acknowledged by Kafka: share of its ceiling", "", 0.65, digits=2),
            Row("2", "the door at half of that: 99th percentile of the wait for its answer", "ms", 25, better="less", digits=1),
            Row("3", "the door, two processes: share of the ceiling of two", "", 0.6, digits=2),
            Row("4", "payments consumer, Kafka to PostgreSQL to Kafka, committed", "events/s", 10_000),
            Row("5", "the same at 1 M payments and 5 M inbox rows, as a share of it", "", 0.8, digits=2),
            Row("6", "bookings consumer, Kafka to PostgreSQL to Kafka, committed", "events/s", 10_000),
            Row("7", "email consumer: letters accepted by the mail server and recorded", "letters/s", 500),
            Row("8a", "webhook to booking confirmed at 100 payments/s, median", "ms", 40, better="less"),
            Row("8b", "webhook to booking confirmed at 100 payments/s, 99th percentile", "ms", 150, better="less"),
            Row("9", "webhook to both letters accepted at 100 payments/s, 99th percentile", "s", 1.0, better="less", digits=2),
            Row("10", "webhook to booking, sustained by everything on these cores, letters for one in ten", "events/s", 2_500),
            Row("11", "webhook to both letters, sustained by everything on these cores", "payments/s", 200),
            Row("12", "memory of the largest process at full load", "MB", 150, better="less"),
            Row("13", "start of the slowest process until it is ready", "s", 2.0, better="less", digits=2),
            Row("14", "make demo, warm", "s", 10.0, better="less", digits=1),
            Row("15", "the Stripe sandbox, one process: payments through its API", "payments/s", 200),
            Row("16", "start of the Stripe sandbox until it answers", "s", 0.5, better="less", digits=2),
        )
    }
