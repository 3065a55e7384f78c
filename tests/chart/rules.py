"""What the manifests have to be beyond Kubernetes' schemas: the pipeline's promises, kept where it runs.

Manifests enter; complaints leave, a line each. planted.py breaks each rule once.
"""

from typer.exceptions import TyperException
from typer.main import get_command

from deploy.dev.box.pipeline import PROCESSES
from deploy.ops import cli
from shared import topics
from tests.chart import pods
from tests.chart.rendering import JOBS, WORKLOADS

REACHED = {
    "ingress": {"dns", "kafka", "postgresql", "stripe"},
    "payments": {"dns", "kafka", "postgresql"},
    "bookings": {"dns", "kafka", "postgresql"},
    "email": {"dns", "kafka", "postgresql", "smtp"},
    "migrate": {"dns", "postgresql"},
    "roles": {"dns", "postgresql"},
    "topics": {"dns", "kafka"},
    "acls": {"dns", "kafka"},
    "inbox-prune": {"dns", "postgresql"},
    "stripe-reconcile": {"dns", "kafka", "postgresql", "stripe"},
    "operator": {"dns", "kafka", "postgresql", "stripe"},
}
BEFORE_A_RELEASE = ("migrate", "roles", "topics", "acls")
FAILS_BY_WHAT_IT_FINDS = ("stripe-reconcile",)
HOOK = "helm.sh/hook"
REPLACED = "before-hook-creation"  # by the next release, and not gone before


def complaints(manifests, network):
    """Return what is wrong; `network` is that of the values, to tell whom a policy lets through."""
    return [
        *(line for name, pod in manifests.pods.items() for line in pods.complaints(name, pod["spec"])),
        *_of_numbers(manifests),
        *_of_workloads(manifests),
        *_of_tasks(manifests),
        *_of_network(manifests, network),
        *_of_hooks(manifests),
        *_of_names(manifests),
    ]


def _of_numbers(manifests):
    """Each scales within its partitions, and one at a time may be disrupted."""
    workloads, scalers = _processes(manifests), manifests.of("HorizontalPodAutoscaler")
    budgets = manifests.of("PodDisruptionBudget")
    if not set(workloads) == set(budgets) == set(PROCESSES):
        yield f"there are {sorted(workloads)}, with budgets for {sorted(budgets)}"
    for name, workload in workloads.items():
        spec, scaler = workload["spec"], scalers.get(name, {}).get("spec")
        if bool(scaler) == ("replicas" in spec):
            yield f"{name}: its number is said twice, or nowhere"
        if scaler and scaler["scaleTargetRef"] != {
            "apiVersion": workload["apiVersion"],
            "kind": workload["kind"],
            "name": workload["metadata"]["name"],
        }:
            yield f"{name}: its autoscaler scales {scaler['scaleTargetRef']}"
        least, most = (scaler["minReplicas"], scaler["maxReplicas"]) if scaler else (spec["replicas"],) * 2
        if least < 2:
            yield f"{name}: one alone is away whenever it is replaced"
        partitions = [topic.partitions for topic in topics.ALL if name in topic.consumers]
        if partitions and most > min(partitions):
            yield f"{name}: {most} share {min(partitions)} partitions"
        if budgets[name]["spec"]["maxUnavailable"] != 1:
            yield f"{name}: more than one may be disrupted"


def _processes(manifests):
    """Return what runs the processes; an operator's pod serves nobody."""
    return {name: one for name, one in manifests.of(*WORKLOADS).items() if name != "operator"}


def _of_workloads(manifests):
    """Who has a lasting name is a static member; who has none is replaced only by one that is ready; all are spread."""
    for name, workload in _processes(manifests).items():
        spec, kind = workload["spec"], workload["kind"]
        pod = spec["template"]["spec"]
        instance = pods.environment(pod).get("KAFKA_INSTANCE_ID")
        if (instance == "$(POD_NAME)") != (kind == "StatefulSet"):
            yield f"{name}: a {kind}, and KAFKA_INSTANCE_ID is {instance}"
        if kind == "Deployment" and spec.get("strategy", {}).get("rollingUpdate") != {"maxSurge": 1, "maxUnavailable": 0}:
            yield f"{name}: a release may take one away before its successor is ready"
        spread = {one["topologyKey"] for one in pod["topologySpreadConstraints"]}
        if spread != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
            yield f"{name}: it is spread over {sorted(spread)}"


def _of_tasks(manifests):
    """Tables before who may use them, topics likewise, all before the processes, by commands that cb-ops has."""
    jobs = manifests.of("Job")
    weights = {name: _weight(job) for name, job in jobs.items()}
    order = [name for name in BEFORE_A_RELEASE if name in weights]
    if sorted(weights, key=weights.get) != order or not {"migrate", "topics"} <= weights.keys():
        yield f"before a release run {weights}"
    for name, job in jobs.items():
        if job["metadata"]["annotations"].get(HOOK) != "pre-install,pre-upgrade":
            yield f"{name}: it does not run before every release"
    for name in manifests.of(*JOBS):
        container = manifests.pods[name]["spec"]["containers"][0]
        if not _is_command(container["args"]) or "/cb-ops:" not in container["image"]:
            yield f"{name}: {container['image']} has no command {container['args']}"
    if "roles" in jobs and "--keep" not in manifests.pods["roles"]["spec"]["containers"][0]["args"]:
        yield "roles: it takes rights from the last release, which still runs"
    for name, job in manifests.of("CronJob").items():
        if (job["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0) != (name in FAILS_BY_WHAT_IT_FINDS):
            yield f"{name}: what it fails of would be met again, or would not be tried again before tomorrow"
    waiting = manifests.pods.get("operator", {}).get("spec")
    if waiting and (waiting.get("restartPolicy"), waiting["containers"][0].get("command")) != (None, ["sleep", "infinity"]):
        yield f"operator: it ends, or is not started again: {waiting}"


def _is_command(arguments):
    """Whether cb-ops takes these words: a command of its own, and after it options that it has."""
    command, rest = get_command(cli.app), list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    try:
        return not hasattr(command, "commands") and bool(command.make_context("cb-ops", rest))
    except TyperException:
        return False


def _of_network(manifests, network):
    """All is denied; then each reaches what it needs, and is reached at its own ports."""
    policies = [one["spec"] for one in manifests.all if one["kind"] == "NetworkPolicy"]
    denials = [one for one in policies if not one.get("ingress") and not one.get("egress")]
    for name, pod in manifests.pods.items():
        labels = pod["metadata"]["labels"]
        if not any(
            _selects(one["podSelector"], labels) and set(one["policyTypes"]) == {"Ingress", "Egress"} for one in denials
        ):
            yield f"{name}: it is not denied everything first"
        mine = [one for one in policies if one not in denials and _selects(one["podSelector"], labels)]
        reached = [rule["to"] for one in mine for rule in one["egress"]]
        if sorted(map(str, reached)) != sorted(str(network[whom]["to"]) for whom in REACHED[name]):
            yield f"{name}: it reaches {reached}"
        ports = {port["port"] for one in mine for rule in one["ingress"] for port in rule["ports"]}
        served = {port["name"] for port in pod["spec"]["containers"][0].get("ports", [])}
        if not ports <= served:
            yield f"{name}: it is reached at {ports}, and serves {served}"
        if name == "ingress" and "http" not in ports:
            yield f"{name}: the door is shut"


def _of_hooks(manifests):
    """What lets a job through stands before it runs, as the last release denies it all; everything else goes with its own."""
    jobs = manifests.of("Job")
    for name, policy in manifests.of("NetworkPolicy").items():
        told = policy["metadata"].get("annotations", {})
        if name not in jobs:
            if HOOK in told:
                yield f"{name}: its policy is no part of the release"
        elif told.get(HOOK) != jobs[name]["metadata"]["annotations"][HOOK] or _weight(policy) >= _weight(jobs[name]):
            yield f"{name}: it runs before its policy stands"
        elif told.get(f"{HOOK}-delete-policy") != REPLACED:
            yield f"{name}: its policy is not replaced by the next release, or is gone while the job runs"


def _weight(one):
    return int(one["metadata"]["annotations"].get(f"{HOOK}-weight", 0))


def _of_names(manifests):
    """Each name once; no Secret of ours; every Service and workload finds the pods of its component, and those alone."""
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests.all]
    yield from (f"{name} stands there twice" for name in set(names) if names.count(name) > 1)
    yield from ("a Secret is made" for kind, _ in names if kind == "Secret")
    for one in manifests.all:
        selector = one["spec"].get("selector", {})
        selector = {"matchLabels": selector} if one["kind"] == "Service" else selector
        if one["kind"] in {"Service", "PodDisruptionBudget", *WORKLOADS}:
            found = [name for name, pod in manifests.pods.items() if _selects(selector, pod["metadata"]["labels"])]
            if found != [one["metadata"]["labels"]["app.kubernetes.io/component"]]:
                yield f"{one['kind']} {one['metadata']['name']} finds {found}"
        headless = one["spec"].get("serviceName")
        if headless and ("Service", headless) not in names:
            yield f"{one['metadata']['name']}: there is no Service {headless}"


def _selects(selector, labels):
    return selector["matchLabels"].items() <= labels.items()
