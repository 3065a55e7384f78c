"""What a pod has to be: hardened, asked for its health where it answers, given time, and given what it reads."""

import re

from pydantic import ValidationError

from shared.ending import STOP_SECONDS_MAX
from shared.kafka.health import READY_WITHIN_SECONDS
from tests.architecture import dockerfile
from tests.architecture.source import ROOT
from tests.architecture.test_images import STAGES
from tests.chart.reading import SECRETS, SETTINGS, fields

ROUTES = set(re.findall(r'add_get\("([^"]+)"', (ROOT / "shared" / "kafka" / "health.py").read_text()))
USER, GROUP = map(int, dockerfile.said(STAGES, "process", "USER")[-1].split(":"))
MARGIN_SECONDS = 1.0  # between the end that a process sets itself and the kill
# The kubelet starts a container again ever later, up to five minutes, and forgets that once it ran for so long.
RESTARTS_FORGOTTEN_SECONDS = 600


def complaints(name, pod):
    """Return what is wrong with the pod of a process or task."""
    return [
        *_of_rights(name, pod),
        *_of_health(name, pod),
        *_of_stopping(name, pod),
        *_of_settings(name, pod),
        *_of_start(name, pod),
    ]


def environment(pod):
    """Return the variables of a pod, without its name, which Kubernetes gives."""
    return {one["name"]: one["value"] for one in pod["containers"][0]["env"] if "value" in one}


def _of_rights(name, pod):
    container = pod["containers"][0]
    whole, own, mounts = pod["securityContext"], container["securityContext"], container.get("volumeMounts", [])
    _, _, tag = container["image"].rpartition(":")
    expected = {
        "a missing token": pod.get("automountServiceAccountToken") is False,
        "an environment without other Services": pod.get("enableServiceLinks") is False,
        "a user": whole.get("runAsNonRoot")
        and (whole["runAsUser"], whole["runAsGroup"], whole["fsGroup"]) == (USER, GROUP, GROUP),
        "seccomp": whole.get("seccompProfile") == {"type": "RuntimeDefault"},
        "missing capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "a bar to more of them": own.get("allowPrivilegeEscalation") is False,
        "a filesystem that nobody writes": own.get("readOnlyRootFilesystem") is True,
        "an image's tag": tag not in {"", "latest"} and "/" not in tag,
        "requests": {"cpu", "memory"} <= container["resources"]["requests"].keys(),
        "a limit": "memory" in container["resources"]["limits"],
        "mounts that are read alone": all(mount["readOnly"] for mount in mounts),
        "mounts of its volumes": {one["name"] for one in mounts} == {one["name"] for one in pod.get("volumes", [])},
    }
    return [f"{name}: it lacks {what}" for what, is_so in expected.items() if not is_so]


def _of_health(name, pod):
    container, given = pod["containers"][0], environment(pod)
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for port, variable in (("health", "HEALTH_PORT"), ("http", "INGRESS_PORT")):
        if port in ports and str(ports[port]) != given.get(variable):
            yield f"{name}: port {port} is {ports[port]}, {variable} is {given.get(variable)}"
    probes = {kind: container[kind]["httpGet"] for kind in container if kind.endswith("Probe")}
    if ports and set(probes) != {"startupProbe", "livenessProbe", "readinessProbe"}:
        yield f"{name}: it is asked for {sorted(probes)} alone"
    # The door has to be ready once, to be let in: then it serves whom it can, while Kafka is away.
    must_be_ready = "startupProbe" if name == "ingress" else "readinessProbe"
    for kind, asked in probes.items():
        path = "/health/ready" if kind == must_be_ready else "/health/live"
        if asked != {"path": path, "port": "health"} or path not in ROUTES:
            yield f"{name}: {kind} asks {asked}"
        if container[kind]["timeoutSeconds"] <= READY_WITHIN_SECONDS:
            yield f"{name}: {kind} gives up before it is told that Kafka or PostgreSQL is silent"
        patience = container[kind]["periodSeconds"] * container[kind]["failureThreshold"]
        if kind == must_be_ready == "startupProbe" and patience <= RESTARTS_FORGOTTEN_SECONDS:
            yield f"{name}: after {patience} s without Kafka it is restarted, later each time"


def _of_stopping(name, pod):
    grace = pod["terminationGracePeriodSeconds"]
    before = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if grace < before + STOP_SECONDS_MAX + MARGIN_SECONDS:
        yield f"{name}: {grace} s are too short to drain"
    if name == "ingress" and not before:
        yield f"{name}: it stops before the balancers know"


def _of_settings(name, pod):
    """It is given what it reads and no more, by its own name once, secrets as files, and every file is there."""
    names, read, files = [one["name"] for one in pod["containers"][0]["env"]], fields(SETTINGS[name]), mounted(pod)
    if len(names) != len(set(names)) or names[0] != "POD_NAME":
        yield f"{name}: its variables are {names}"
    for variable, value in environment(pod).items():
        if variable.removesuffix("_FILE") not in read and variable not in read:
            yield f"{name}: it does not read {variable}"
        if variable in SECRETS:
            yield f"{name}: {variable} stands in the open"
        if variable.endswith("_FILE") and value not in files:
            yield f"{name}: {variable} names {value}, which is not mounted"


def _of_start(name, pod):
    """With what it is given it would start, if the Secrets hold what they should."""
    values = {}
    for variable, value in environment(pod).items():
        secret = variable.removesuffix("_FILE")
        if secret in SECRETS:
            values[secret.lower()] = SECRETS[secret]
        elif not variable.endswith("_FILE"):  # the authorities: no file here
            values[variable.lower()] = value
    try:
        SETTINGS[name](_env_file=None, **values)
    except ValidationError as invalid:
        yield from (f"{name}: it would not start: {fault['loc']} {fault['msg']}" for fault in invalid.errors())


def mounted(pod):
    """Return the path of every file that a pod's volumes hold."""
    places = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0].get("volumeMounts", [])}
    return {
        f"{places[volume['name']]}/{item['path']}"
        for volume in pod.get("volumes", [])
        for source in volume["projected"]["sources"]
        for item in (source.get("secret") or source["configMap"])["items"]
    }
