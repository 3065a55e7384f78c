"""What Helm makes of the chart: manifests as dictionaries, or what it complains of."""

import json
import subprocess
from dataclasses import dataclass
from functools import cached_property

import yaml

from tests.architecture.source import ROOT
from tests.referees import fetching

CLUSTER = ROOT / "deploy" / "cluster"
CHART = CLUSTER / "chart"
EXAMPLE = CLUSTER / "example.yaml"
RELEASE, NAMESPACE = "shop", "money"
# The least that has to be given: everything else is as values.yaml has it.
LEAST = {
    "image": {"repository": "registry.example/culturebridge"},
    "settings": {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "CHECKOUT_ALLOWED_ORIGINS": "https://culturebridge.example",
        "SMTP_HOST": "mail",
        "SMTP_FROM_EMAIL": "noreply@culturebridge.example",
    },
    "network": {whom: {"to": [{"podSelector": {}}]} for whom in ("kafka", "postgresql", "smtp")},
}
WORKLOADS = ("Deployment", "StatefulSet")
JOBS = ("Job", "CronJob")


class Refused(Exception):
    """Helm renders nothing, and says why."""


@dataclass(frozen=True)
class Manifests:
    """What one set of values becomes."""

    all: list

    def of(self, *kinds):
        """Those of some kinds, by their component."""
        return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in self.all if one["kind"] in kinds}

    @cached_property
    def pods(self):
        """The template of each process's and task's pods, by its name."""
        return {name: template_of(one) for name, one in self.of(*WORKLOADS, *JOBS).items()}


def template_of(workload):
    """Return the template of the pods of whatever runs some."""
    spec = workload["spec"]
    return (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]


def lint(*values):
    """Return the lines in which `helm lint` complains; also of what it only warns of."""
    ran = _helm("lint", "--strict", "--quiet", str(CHART), *(f"--values={file}" for file in values))
    return [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()] if ran.returncode else []


def rendered(values, *arguments):
    """Return the manifests of values: a file's, or a dictionary's. Raises Refused with what Helm says."""
    file, text = ("-", json.dumps(values)) if isinstance(values, dict) else (values, None)
    # The newest cluster that Helm knows may be older than ours, and older than the chart asks for.
    place = (RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--kube-version=1.37.0")
    ran = _helm("template", *place, f"--values={file}", *arguments, text=text)
    if ran.returncode:
        raise Refused(ran.stderr.strip())
    return Manifests([one for one in yaml.load_all(ran.stdout, yaml.CSafeLoader) if one])


def _helm(*arguments, text=None):
    binary = fetching.built(fetching.HELM)
    return subprocess.run([binary, *arguments], cwd=ROOT, check=False, capture_output=True, text=True, input=text, timeout=60)
