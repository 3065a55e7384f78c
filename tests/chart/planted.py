"""Faults planted into manifests, one by one: a rule that notices none of them would be no rule."""

import copy

from tests.chart import rules
from tests.chart.rendering import Manifests


def complaints(manifests, network):
    """Return the faults that no rule notices."""
    return [
        f"nobody notices: {what}" for what, plant in FAULTS.items() if not rules.complaints(_with(manifests, plant), network)
    ]


def _with(manifests, plant):
    planted = Manifests(copy.deepcopy(manifests.all))
    plant(planted)
    return planted


def _pod(planted, name="payments"):
    return planted.pods[name]["spec"]


def _container(planted, name="payments"):
    return _pod(planted, name)["containers"][0]


def _variable(planted, variable, name="payments"):
    return next(one for one in _container(planted, name)["env"] if one["name"] == variable)


def _spec(planted, kind, name):
    return planted.of(kind)[name]["spec"]


def _policy(planted, name):
    return _spec(planted, "NetworkPolicy", name)


def _hook(planted, name):
    return planted.of("NetworkPolicy")[name]["metadata"]["annotations"]


# Each is one mistake that somebody has made in some chart.
FAULTS = {
    "a token": lambda it: _pod(it).update(automountServiceAccountToken=True),
    "variables of other Services": lambda it: _pod(it).pop("enableServiceLinks"),
    "root": lambda it: _pod(it)["securityContext"].update(runAsUser=0),
    "a capability": lambda it: _container(it)["securityContext"].update(capabilities={"drop": ["NET_RAW"]}),
    "a filesystem that may be written": lambda it: _container(it)["securityContext"].pop("readOnlyRootFilesystem"),
    "the latest image": lambda it: _container(it).update(image="culturebridge/payments:latest"),
    "no limit of memory": lambda it: _container(it)["resources"].update(limits={}),
    "another port of health": lambda it: _variable(it, "HEALTH_PORT").update(value="8001"),
    "a path that nobody serves": lambda it: _container(it)["livenessProbe"]["httpGet"].update(path="/healthz"),
    "liveness by readiness": lambda it: _container(it)["livenessProbe"]["httpGet"].update(path="/health/ready"),
    "a probe without patience": lambda it: _container(it)["livenessProbe"].update(timeoutSeconds=2),
    "a door shut while Kafka is away": lambda it: _container(it, "ingress")["readinessProbe"]["httpGet"].update(
        path="/health/ready"
    ),
    "a door let in without Kafka": lambda it: _container(it, "ingress")["startupProbe"]["httpGet"].update(path="/health/live"),
    "a door restarted while it waits for Kafka": lambda it: _container(it, "ingress")["startupProbe"].update(
        failureThreshold=30
    ),
    "a kill while it drains": lambda it: _pod(it).update(terminationGracePeriodSeconds=10),
    "a door that shuts at once": lambda it: _container(it, "ingress").pop("lifecycle"),
    "the sleep taken from the drain": lambda it: _pod(it, "ingress").update(terminationGracePeriodSeconds=12),
    "a secret in the open": lambda it: _container(it)["env"].append({"name": "DATABASE_URL", "value": "postgresql://a:b@c/d"}),
    "a secret that is no business of it": lambda it: _container(it)["env"].append({"name": "SMTP_HOST", "value": "mail"}),
    "a file that is not there": lambda it: _variable(it, "DATABASE_URL_FILE").update(value="/run/secrets/DATABASE_URL"),
    "a setting that is missing": lambda it: _container(it)["env"].remove(_variable(it, "KAFKA_BOOTSTRAP_SERVERS")),
    "a setting that is wrong": lambda it: _variable(it, "KAFKA_BOOTSTRAP_SERVERS").update(value="kafka"),
    "a name used before it is known": lambda it: _container(it)["env"].reverse(),
    "one alone": lambda it: _spec(it, "HorizontalPodAutoscaler", "ingress").update(minReplicas=1),
    "more than partitions": lambda it: _spec(it, "HorizontalPodAutoscaler", "payments").update(maxReplicas=13),
    "an autoscaler of somebody else": lambda it: _spec(it, "HorizontalPodAutoscaler", "payments")["scaleTargetRef"].update(
        kind="Deployment"
    ),
    "a number beside the autoscaler": lambda it: _spec(it, "StatefulSet", "payments").update(replicas=2),
    "all disrupted at once": lambda it: _spec(it, "PodDisruptionBudget", "ingress").update(maxUnavailable=2),
    "the last door taken away": lambda it: _spec(it, "Deployment", "ingress")["strategy"]["rollingUpdate"].update(
        maxUnavailable=1
    ),
    "a static member without a lasting name": lambda it: it.of("StatefulSet")["payments"].update(kind="Deployment"),
    "all on one node": lambda it: _pod(it, "ingress")["topologySpreadConstraints"].pop(0),
    "topics before tables": lambda it: it.of("Job")["topics"]["metadata"]["annotations"].update({"helm.sh/hook-weight": "0"}),
    "no migration at an upgrade": lambda it: it.of("Job")["migrate"]["metadata"]["annotations"].update(
        {"helm.sh/hook": "pre-install"}
    ),
    "rights taken from the last release": lambda it: _container(it, "roles")["args"].pop(),
    "an operator's pod that ends": lambda it: _pod(it, "operator").update(restartPolicy="Never"),
    "Stripe asked four times what it answered": lambda it: _spec(it, "CronJob", "stripe-reconcile")["jobTemplate"][
        "spec"
    ].update(backoffLimit=3),
    "a command that is not": lambda it: _container(it, "inbox-prune").update(args=["inbox", "trim"]),
    "an option that is not": lambda it: _container(it, "topics")["args"].append("--all"),
    "nothing denied": lambda it: it.all.remove(it.of("NetworkPolicy")["denied"]),
    "mail from the door": lambda it: _policy(it, "ingress")["egress"].append(_policy(it, "email")["egress"][-1]),
    "no way to Kafka": lambda it: _policy(it, "payments")["egress"].pop(1),
    "the door shut": lambda it: _policy(it, "ingress")["ingress"].pop(0),
    "a policy that comes with the release, after its job": lambda it: it.of("NetworkPolicy")["topics"]["metadata"].pop(
        "annotations"
    ),
    "a policy that comes after its job": lambda it: _hook(it, "migrate").update({"helm.sh/hook-weight": "1"}),
    "a policy for installations alone": lambda it: _hook(it, "migrate").update({"helm.sh/hook": "pre-install"}),
    "a policy gone before its job ends": lambda it: _hook(it, "migrate").update(
        {"helm.sh/hook-delete-policy": "hook-succeeded"}
    ),
    "a policy that outlives its release": lambda it: it.of("NetworkPolicy")["payments"]["metadata"].update(
        annotations=_hook(it, "migrate")
    ),
    "a Service that finds nobody": lambda it: it.of("Service")["ingress"]["spec"]["selector"].update(
        {"app.kubernetes.io/component": "door"}
    ),
    "a Secret": lambda it: it.all.append({**it.of("Service")["ingress"], "kind": "Secret"}),
    "no headless Service": lambda it: _spec(it, "StatefulSet", "email").update(serviceName="email"),
}
