"""`make check` on the Helm chart: Helm lints and renders it, Kubernetes' schemas and our own rules judge what comes out.

Needs Go once, to build Helm into .referees/ (minutes); from then on seconds. Exits non-zero where a judge complains, and where
Helm cannot be had, in a line that says what to install.
"""

import functools
import sys

import yaml

from tests.architecture.source import ROOT
from tests.chart import planted, refusals, rendering, rules
from tests.chart.rendering import CHART, EXAMPLE, LEAST
from tests.referees import fetching
from tests.referees.__main__ import asked

# The oldest that Chart.yaml admits, and the newest whose schemas there are.
VERSIONS = ("1.30", "1.37")
ALERTS = ROOT / "deploy" / "observability" / "prometheus" / "alerts.yml"
OPERATOR = "monitoring.coreos.com/v1"  # Prometheus' operator, whose kinds are no part of Kubernetes


def main():
    """Ask each judge; return the exit status."""
    if asked("chart: Helm is here", _helm):
        return 1
    judges = {
        "chart: helm lint": lambda: rendering.lint(EXAMPLE),
        "chart: Kubernetes' schemas": lambda: [line for version in VERSIONS for line in _invalid(version)],
        "chart: what the pipeline promises": lambda: [
            line for values in (LEAST, EXAMPLE) for line in rules.complaints(*_judged(values))
        ],
        "chart: planted faults are noticed": lambda: planted.complaints(*_judged(EXAMPLE)),
        "chart: Prometheus' rules": _misrendered_alerts,
        "chart: wrong values are refused": refusals.complaints,
        "chart: right values are taken": refusals.complaints_of_right,
    }
    return max([asked(name, functools.partial(_rendering, ask)) for name, ask in judges.items()])


def _helm():
    fetching.built(fetching.HELM)
    return []


def _rendering(ask):
    try:
        return ask()
    except rendering.Refused as refused:
        return str(refused).splitlines()


@functools.cache
def _least():
    return rendering.rendered(LEAST)


@functools.cache
def _example():
    return rendering.rendered(EXAMPLE)


def _invalid(version):
    # A second of importing, which whoever only reads this module does not need.
    import kubernetes_validate
    from kubernetes_validate.utils import SchemaNotFoundError

    for one in _example().all:
        if one["apiVersion"] == OPERATOR:
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except SchemaNotFoundError:
            yield f"{version} knows no {one['kind']} of {one['apiVersion']}"
        except kubernetes_validate.ValidationError as invalid:
            place = ".".join(map(str, invalid.path))
            yield f"{version}: {one['kind']} {one['metadata']['name']}: {place}: {invalid.message}"


def _misrendered_alerts():
    rules_of_operator = rendering.rendered(LEAST, f"--set-file=monitoring.alerts={ALERTS}").of("PrometheusRule")["alerts"][
        "spec"
    ]
    return [] if rules_of_operator == yaml.load(ALERTS.read_text(), yaml.CSafeLoader) else [f"{ALERTS} comes out changed"]


def _judged(values):
    """Return the manifests of values, and whom they let be reached."""
    given = LEAST if values is LEAST else yaml.load(EXAMPLE.read_text(), yaml.CSafeLoader)
    ours = yaml.load((CHART / "values.yaml").read_text(), yaml.CSafeLoader)["network"]
    network = {whom: rule | given["network"].get(whom, {}) for whom, rule in ours.items()}
    return _least() if values is LEAST else _example(), network


if __name__ == "__main__":
    sys.exit(main())
