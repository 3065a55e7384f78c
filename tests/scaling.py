"""The arithmetic of docs/scaling.md: what one, ten and a hundred times a load take, from inputs that the page names.

`python -m tests.scaling` takes the figures of docs/bench.json over into the page's inputs, where `make bench` has written it,
and writes the table beneath them anew. A test holds that the table is what the inputs give.
"""

import json
import math
import re
import statistics
from dataclasses import dataclass

from consumers.email.app import CONNECTIONS_MAX as EMAIL_CONNECTIONS
from ingress.app import DATABASE_CONNECTIONS_MAX as DOOR_CONNECTIONS
from shared import topics
from shared.db import inbox
from shared.kafka.provision import REPLICATION_MAX
from shared.kafka.service import CONNECTIONS_MAX as CONSUMER_CONNECTIONS
from tests.bench.page import FIGURES
from tests.journey.pipeline import ROOT

PAGE = ROOT / "docs" / "scaling.md"
INPUT = re.compile(r"^\| `(\w+)` \| ([\d.,]+) \| (.*) \|$", re.MULTILINE)
HEAD, END = "<!-- scaling -->\n", "<!-- /scaling -->\n"
# Which row of `make bench` an input is.
BENCH_ROWS = {
    "payments_events_per_second": "4",
    "bookings_events_per_second": "6",
    "letters_per_second": "7",
    "events_per_second_of_all": "10",
}
TIMES = (1, 10, 100)
TIMES_SIGN = "\N{MULTIPLICATION SIGN}"
PROCESSES_MIN = 2  # one may always be away
SECONDS_A_DAY = 86_400
INBOX_DAYS = inbox.KEEP_DAYS + 31  # whole months are forgotten at once
GB = 10**9


@dataclass(frozen=True)
class Demand:
    """What a load of payments takes: figures a second, counts, bytes a day and bytes in all."""

    payments: float
    events: float
    letters: float
    doors: int
    payments_consumers: int
    bookings_consumers: int
    email_consumers: int
    partitions: int
    cores: float
    connections: int
    topic_bytes: float
    inbox_rows_a_day: float
    inbox_bytes: float
    ledger_rows_a_day: float
    ledger_bytes_a_day: float
    letter_bytes_a_day: float


def demand(given, times):
    """Return what `times` the load of the inputs takes."""
    payments = given["payments_per_second"] * times
    events = payments * given["stripe_events_per_payment"]
    changes = payments * given["payments_events_per_payment"]
    outcomes = payments * given["bookings_events_per_payment"]
    letters = payments * given["letters_per_payment"]

    def processes(load, one):
        return max(PROCESSES_MIN, math.ceil(load / (one * given["share_planned"])))

    doors = processes(events, given["webhooks_per_second_per_door"])
    consumers = (
        processes(events, given["payments_events_per_second"]),
        processes(changes, given["bookings_events_per_second"]),
        processes(letters, given["letters_per_second"]),
    )
    partitions = topics.STRIPE_EVENTS.partitions
    written = (
        (topics.STRIPE_EVENTS, events * given["stripe_record_bytes"]),
        (topics.PAYMENTS_EVENTS, changes * given["payments_record_bytes"]),
        (topics.BOOKINGS_EVENTS, outcomes * given["bookings_record_bytes"]),
    )
    inbox_rows = (events + changes) * SECONDS_A_DAY
    return Demand(
        payments=payments,
        events=events,
        letters=letters,
        doors=doors,
        payments_consumers=consumers[0],
        bookings_consumers=consumers[1],
        email_consumers=consumers[2],
        partitions=math.ceil(max(consumers) / partitions) * partitions,
        cores=events / given["events_per_second_of_all"] * given["cores_measured"] / given["share_planned"],
        connections=doors * DOOR_CONNECTIONS + sum(consumers[:2]) * CONSUMER_CONNECTIONS + consumers[2] * EMAIL_CONNECTIONS,
        topic_bytes=sum(rate * topic.retention_days for topic, rate in written) * SECONDS_A_DAY * REPLICATION_MAX,
        inbox_rows_a_day=inbox_rows,
        inbox_bytes=inbox_rows * INBOX_DAYS * given["inbox_row_bytes"],
        ledger_rows_a_day=events * SECONDS_A_DAY,
        ledger_bytes_a_day=events * SECONDS_A_DAY * given["ledger_row_bytes"],
        letter_bytes_a_day=letters * SECONDS_A_DAY * given["letter_bytes"],
    )


def table(given):
    """Return the page's table, a column for each load."""
    loads = [demand(given, times) for times in TIMES]
    million = 10**6
    lines = {
        "payments a second": [f"{one.payments:,.0f}" for one in loads],
        "events of Stripe a second": [f"{one.events:,.0f}" for one in loads],
        "letters a second": [f"{one.letters:,.0f}" for one in loads],
        "ingress": [f"{one.doors}" for one in loads],
        "payments": [f"{one.payments_consumers}" for one in loads],
        "bookings": [f"{one.bookings_consumers}" for one in loads],
        "email": [f"{one.email_consumers}" for one in loads],
        "partitions of each topic that is consumed": [f"{one.partitions}" for one in loads],
        "connections to PostgreSQL": [f"{one.connections}" for one in loads],
        "cores in all, Kafka's and PostgreSQL's among them": [f"{one.cores:,.1f}" for one in loads],
        f"disk of the topics, {topics.STRIPE_EVENTS.retention_days} days, all replicas": [_gb(x.topic_bytes) for x in loads],
        "inbox: rows a day": [f"{one.inbox_rows_a_day / million:,.0f} million" for one in loads],
        f"inbox: size, {INBOX_DAYS} days at most": [_gb(one.inbox_bytes) for one in loads],
        "ledger: rows a day": [f"{one.ledger_rows_a_day / million:,.0f} million" for one in loads],
        "ledger: a day, kept for good": [_gb(one.ledger_bytes_a_day) for one in loads],
        "letters and their changes: a day, kept for good": [_gb(one.letter_bytes_a_day) for one in loads],
    }
    head = f"| | {' | '.join(f'{times}{TIMES_SIGN}' for times in TIMES)} |\n|---|{'---:|' * len(TIMES)}\n"
    return head + "".join(f"| {what} | {' | '.join(cells)} |\n" for what, cells in lines.items())


def inputs(page):
    """Return the numbers of the page's table of inputs, by their names."""
    return {name: float(number.replace(",", "")) for name, number, _ in INPUT.findall(page)}


def measured(page, rows):
    """Return the page with the medians of `make bench` as its inputs; `rows` are those of docs/bench.json."""
    for name, number in BENCH_ROWS.items():
        if number in rows:
            told = f"| `{name}` | {statistics.median(rows[number]):,.0f} | `make bench`, row {number} |"
            page = re.sub(rf"^\| `{name}` \| .*$", told, page, flags=re.MULTILINE)
    return page


def written(page):
    """Return the page with the table that its inputs give."""
    before, _, rest = page.partition(HEAD)
    return before + HEAD + table(inputs(page)) + END + rest.partition(END)[2]


def main():
    """Write the page anew."""
    page = PAGE.read_text()
    if FIGURES.exists():
        page = measured(page, json.loads(FIGURES.read_text())["rows"])
    PAGE.write_text(written(page))


def _gb(size):
    return f"{size / GB:,.0f} GB" if size >= 10 * GB else f"{size / GB:,.1f} GB"


if __name__ == "__main__":
    main()
