"""Dashboard, alerts and scraping: every query is PromQL and asks for metrics and labels that exist."""

import ast
import json
import re
from typing import get_args

import promql_parser
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from ingress import connections
from shared import metrics
from tests.architecture.source import ROOT, product
from tests.architecture.test_compose import SERVICES
from tests.architecture.test_images import SETTINGS

FOLDER = ROOT / "deploy/observability"
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/payments.json").read_text())
ALERTS = yaml.load((FOLDER / "prometheus/alerts.yml").read_text(), yaml.CSafeLoader)
RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
TRIED = yaml.load((ROOT / "tests/architecture/alerts.yml").read_text(), yaml.CSafeLoader)["tests"]
SCRAPED = yaml.load((FOLDER / "prometheus/prometheus.yml").read_text(), yaml.CSafeLoader)
SAMPLES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
# What Prometheus adds to whatever it scrapes.
TARGET_LABELS = {"job", "instance"}


def known():
    """Every series of the pipeline by name, with its labels; the second is Python's client's own."""
    found = {"up": TARGET_LABELS, "process_start_time_seconds": TARGET_LABELS}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for ending in SAMPLES[metric._type]:
                labels = set(metric._labelnames) | TARGET_LABELS | ({"le"} if ending == "_bucket" else set())
                found[metric._name + ending] = labels
    return found


def told(one):
    """The metrics that a file counts, sets or observes: `metrics.NAME`."""
    looked_up = (node for node in ast.walk(one.tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return {node.attr for node in looked_up if node.value.id == "metrics"}


def test_every_metric_is_told_by_somebody():
    """One that nobody counts any more says 0 for ever, and all looks well."""
    metrics_of_ours = {name for name, one in vars(metrics).items() if isinstance(one, MetricWrapperBase)}

    assert metrics_of_ours == set().union(*map(told, product())) & vars(metrics).keys()


def unclear(one):
    """What of a metric nobody could read, or Prometheus keep: a distribution without its unit, a label that has no end."""
    unit = [] if one._type != "histogram" or one._name.endswith(("_seconds", "_bytes")) else ["unit"]
    return unit + [label for label in one._labelnames if re.search(r"(^|_)id$", label)]


def test_every_metric_has_its_unit_and_is_no_index():
    """An id as a label is a series for each payment, and whoever reads the metrics reads whose it is."""
    found = {name: unclear(one) for name, one in vars(metrics).items() if isinstance(one, MetricWrapperBase)}

    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (Histogram("batch", "How long", registry=None), "unit"),
        (Counter("letters", "Sent", ["kind", "payment_id"], registry=None), "payment_id"),
        (Gauge("lag", "Left", ["id"], registry=None), "id"),
    ],
)
def test_an_unclear_metric_is_seen(one, fault):
    """The rule itself is tried."""
    assert unclear(one) == [fault]


def queries():
    """Every query with where it stands; Grafana's variables are set as it would set them."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    shown = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    asked = [(name, rule["expr"]) for name, rule in RULES.items()]
    return [(name, re.sub(r"\$__\w+", "5m", query)) for name, query in shown + asked]


def faults(query):
    """What a query asks for that nobody tells."""
    found = []

    def look(node):
        if isinstance(node, promql_parser.VectorSelector):
            labels = known().get(node.name)
            if labels is None:
                found.append(node.name)
            else:
                found.extend(matcher.name for matcher in node.matchers.matchers if matcher.name not in labels)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            series = {name for name in known() if re.search(rf"\b{name}\b", kept(node.expr).prettify())}
            found.extend(label for label in node.modifier.labels if not all(label in known()[name] for name in series))

    promql_parser.walk(promql_parser.parse(query), look)
    return found


def kept(expression):
    """What a result has its labels of: the right side of `and` and `unless` only filters."""
    filters = isinstance(expression, promql_parser.BinaryExpr) and str(expression.op) in {"and", "unless"}
    return kept(expression.lhs) if filters else expression


@pytest.mark.parametrize(("name", "query"), queries())
def test_a_query_asks_for_what_is_told(name, query):
    """A renamed metric would leave a panel empty and an alert silent for ever."""
    assert faults(query) == [], name


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sum(rate(webhooks_total[5m]))", "webhooks_total"),
        ('letters_total{result="sent"}', "result"),
        ("sum by (reason) (rate(letters_total[5m]))", "reason"),
        ("max by (reason) (letters_total unless on (job) mail_server_away == 1)", "reason"),
        ("histogram_quantile(0.9, rate(webhook_processing_seconds[5m]))", "webhook_processing_seconds"),
    ],
)
def test_a_query_that_nobody_answers_is_seen(query, fault):
    """The rule itself is tried."""
    assert faults(query) == [fault]


def fragile(query):
    """The comparisons and ratios in a query that say nothing where their smaller side should be 0."""
    found = []

    def look(node):
        if isinstance(node, promql_parser.BinaryExpr):
            smaller = {"<": node.lhs, "<=": node.lhs, "/": node.lhs, ">": node.rhs, ">=": node.rhs}.get(str(node.op))
            inner = smaller.expr if isinstance(smaller, promql_parser.ParenExpr) else smaller
            told = isinstance(inner, promql_parser.NumberLiteral) or str(getattr(inner, "op", None)) == "or"
            if smaller is not None and not told and not isinstance(node.rhs, promql_parser.NumberLiteral):
                found.append(node.prettify())

    promql_parser.walk(promql_parser.parse(query), look)
    return found


@pytest.mark.parametrize(("name", "query"), queries())
def test_what_never_happened_counts_as_0(name, query):
    """A label's series begins with its first event: without `or vector(0)` all payments may fail, and nothing compares them."""
    assert fragile(query) == [], name


@pytest.mark.parametrize(
    ("query", "is_fragile"),
    [
        ("sum(a) < sum(b)", True),
        ("sum(b) > sum(a) and sum(b) > 20", True),
        ("sum(a) / sum(b)", True),
        ("(sum(a) or vector(0)) / sum(b)", False),
        ("(sum(a) or vector(0)) < sum(b) and sum(b) >= 20", False),
        ("sum(a) > 0 or sum(a unless a offset 5m) > 0", False),
    ],
)
def test_a_query_that_waits_for_a_first_event_is_seen(query, is_fragile):
    """The rule itself is tried."""
    assert bool(fragile(query)) == is_fragile


def test_the_dashboard_shows_what_the_business_asks():
    """The four numbers and the lag."""
    shown = " ".join(query for _, query in queries())

    for metric in (
        'payments_changed_total{announcement="payment.succeeded"}',
        "webhook_processing_seconds_bucket",
        'letters_total{outcome="sent"}',
        "payment_failures_total",
        "kafka_lag_records",
        "kafka_oldest_unprocessed_seconds",
        "process_ready",
    ):
        assert metric in shown


def test_every_alert_says_what_it_means():
    """Who is called at night reads a sentence and what to do, not a formula."""
    for name, rule in RULES.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert {"summary", "description"} <= set(rule["annotations"]), name


def test_who_is_called_about_a_topic_hears_whose_consumer_it_is():
    """Bookings and email both read payments.events: at night nobody should have to look for the one that stands still."""
    about = {name: rule for name, rule in RULES.items() if "$labels.topic" in rule["annotations"]["summary"]}
    called = {name: rule for name, rule in about.items() if rule["labels"]["severity"] == "page"}

    assert {"EventsWaitLong", "BatchesFail", "RecordsPassedOver"} == called.keys()
    assert [name for name, rule in called.items() if "$labels.job" not in rule["annotations"]["summary"]] == []
    assert [name for name, rule in called.items() if "by (job, topic" not in rule["expr"]] == []


def test_every_alert_is_tried():
    """In a case in which it fires: what never does passes for an alert until the night in which nobody is called."""
    fires = {case["alertname"] for test in TRIED for case in test["alert_rule_test"] if case.get("exp_alerts")}

    assert fires == set(RULES)


def test_no_made_up_series_is_forgotten_between_two_of_its_samples():
    """Prometheus looks back for less than five minutes: an alert that has to last would begin anew at each sample."""
    assert {test["name"] for test in TRIED if test["interval"] not in {"15s", "1m", "2m"}} == set()


def test_every_alert_has_its_line_for_who_is_called():
    """By its name; one that was renamed or forgotten would send somebody to search at night."""
    _, _, page = (ROOT / "docs/operating.md").read_text().partition("\n## When an alert calls\n")
    lines = [line.split(" | ")[0] for line in page.partition("\n## ")[0].splitlines()]

    assert {name for line in lines for name in re.findall(r"`([A-Z]\w+)`", line) if line.startswith("| ")} == set(RULES)


def test_every_reason_of_a_closed_connection_is_on_the_operators_page():
    """The label's whole set: what the metric counts under another word, the page could not explain."""
    page = (ROOT / "docs/operating.md").read_text()
    table = page.partition("| reason | what the client did |\n")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(get_args(connections.Reason))


def test_every_process_is_scraped_where_its_image_answers():
    """By the service's name, so that each replica is found; on the port of its settings."""
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in SCRAPED["scrape_configs"]}

    assert {name: (job["names"], job["port"]) for name, job in jobs.items()} == {
        name: ([name], kind.model_fields["health_port"].default) for name, kind in SETTINGS.items()
    }
    assert [FOLDER / "prometheus" / file for file in SCRAPED["rule_files"]] == [FOLDER / "prometheus/alerts.yml"]


def test_grafana_finds_its_dashboard_and_its_source():
    """Provisioned: nothing is clicked together, and a panel names the source that is there."""
    provisioned = FOLDER / "grafana/provisioning"
    source = yaml.load((provisioned / "datasources/prometheus.yml").read_text(), yaml.CSafeLoader)["datasources"][0]
    provider = yaml.load((provisioned / "dashboards/culturebridge.yml").read_text(), yaml.CSafeLoader)["providers"][0]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}

    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel} == {source["uid"]}
    assert (ROOT / mounted[provider["options"]["path"]] / "payments.json").exists()
    assert source["url"] == "http://prometheus:9090"
