"""A compose file as its services: anchors, `extends`, `!override` and `!reset` followed as Compose does.

Maps are merged, lists joined, a command or a healthcheck's test replaced: https://docs.docker.com/reference/compose-file/merge/
"""

import copy
import functools

import yaml

from tests.architecture.source import ROOT

STACK = ROOT / "docker-compose.yml"
CLUSTER = ROOT / "deploy/cluster/compose.yml"
REPLACED = {"command", "entrypoint", "test"}


class Override:
    """What stands in the place of what is extended, and is not merged with it; None takes that away."""

    def __init__(self, value):
        self.value = value


class Loader(yaml.CSafeLoader):
    """YAML with Compose's own tags."""

    def override(self, node):
        is_list = isinstance(node, yaml.SequenceNode)
        return Override(self.construct_sequence(node, deep=True) if is_list else self.construct_mapping(node, deep=True))


Loader.add_constructor("!override", Loader.override)
Loader.add_constructor("!reset", lambda _loader, _node: Override(None))


def services(file):
    """Every service of a file by its name, whole; the caller's own."""
    return {name: _whole(file, service) for name, service in copy.deepcopy(_written(file)).items()}


@functools.cache
def _written(file):
    return yaml.load(file.read_text(), Loader)["services"]


def _whole(file, service):
    extended = service.pop("extends", None)
    before = services((file.parent / extended["file"]).resolve())[extended["service"]] if extended else {}
    return _merged(before, service)


def _merged(before, after):
    whole = dict(before)
    for key, value in after.items():
        if isinstance(value, Override):
            whole[key] = value.value
            if value.value is None:
                del whole[key]
        elif isinstance(value, dict) and key in before:
            whole[key] = _merged(before[key], value)
        elif isinstance(value, list) and key in before and key not in REPLACED:
            replaced = {_target(one) for one in value} if key == "volumes" else ()
            whole[key] = [one for one in before[key] if not replaced or _target(one) not in replaced] + value
        else:
            whole[key] = value
    return whole


def _target(volume):
    return volume.split(":")[1]
