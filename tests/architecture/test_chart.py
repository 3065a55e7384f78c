"""The Helm chart knows every setting that the processes read, and refuses what they would refuse; no Helm is needed.

What it becomes is judged by `python -m tests.chart`, which `make check` calls.
"""

import json
from typing import Literal, get_args, get_origin

import pytest
import yaml

from shared import environment, topics
from tests.architecture.test_readme import CONCERNS
from tests.chart import __main__ as judges
from tests.chart.reading import SECRETS, SETTINGS, fields
from tests.chart.rendering import CHART
from tests.referees import fetching

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFINED = SCHEMA["definitions"]
IN_VALUES = DEFINED["settings"]["properties"] | DEFINED["secrets"]["properties"]
TABLE = yaml.load((CHART / "processes.yaml").read_text(), yaml.CSafeLoader)
SHAPES = TABLE["processes"] | TABLE["tasks"]


def own_limits(name):
    """What the schema says of a setting, behind its name for it."""
    said = IN_VALUES[name]
    return DEFINED[said["$ref"].rpartition("/")[2]] if "$ref" in said else said


def test_every_setting_can_be_given():
    """In the open, or as a Secret that exists; a secret never in the open."""
    in_files = {name.upper() for kind in CONCERNS for name in environment.secrets_of(kind)}

    assert set(fields(*CONCERNS)) == set(IN_VALUES)
    assert in_files == set(DEFINED["secrets"]["properties"]) == set(SECRETS)
    assert not set(DEFINED["settings"]["properties"]) & in_files


@pytest.mark.parametrize("concern", TABLE["concerns"])
def test_a_concern_is_listed_whole(concern):
    """As its class in shared/settings.py has it; a variable that is missing here would never reach a pod."""
    kind = next(kind for kind in CONCERNS if kind.__name__.lower() == concern)

    assert set(fields(kind)) == set(TABLE["concerns"][concern])


@pytest.mark.parametrize("name", SHAPES)
def test_each_reads_its_own_concerns(name):
    """The mail's password is no business of the door, nor Stripe's key of the letters."""
    kinds = [kind for kind in CONCERNS if issubclass(SETTINGS[name], kind)]

    assert set(SHAPES[name]["reads"]) == {kind.__name__.lower() for kind in kinds}
    assert set(SHAPES) == set(SETTINGS)


def test_what_must_be_given_is_asked_for():
    """At the cluster's door, and not by a process that ends with status 2."""
    needed = {name for kind in SETTINGS.values() for name, field in fields(kind).items() if field.is_required()}
    asked = {
        name
        for part in (DEFINED["settingsOfAll"], SCHEMA["properties"]["secrets"])
        for rule in part["allOf"]
        for name in rule.get("required", ())
    }

    assert needed <= asked
    assert asked - needed == {"INGRESS_PORT"}


@pytest.mark.parametrize("name", sorted(fields(*CONCERNS)))
def test_a_value_is_bounded_as_its_setting(name):
    """The same words, the same least and greatest number; a port below 1024 would need root."""
    field, said = fields(*CONCERNS)[name], own_limits(name)
    words = {
        word
        for kind in (field.annotation, *get_args(field.annotation))
        if get_origin(kind) is Literal
        for word in get_args(kind)
    }
    bounds = {bound: getattr(one, bound) for one in field.metadata for bound in ("ge", "le") if hasattr(one, bound)}

    if words:
        assert set(said["enum"]) == words
    if bounds and said is not DEFINED["unprivilegedPort"]:
        assert bounds == {"ge": said.get("minimum"), "le": said.get("maximum")} or bounds == {"ge": said["minimum"]}


def test_no_consumer_is_more_than_its_partitions():
    """Who has none stands idle."""
    partitions = {topic.partitions for topic in topics.ALL if topic.consumers}

    assert partitions == {DEFINED["consumer"]["allOf"][1]["properties"]["replicas"]["properties"]["max"]["maximum"]}


def test_without_go_the_judges_say_what_to_install(monkeypatch, capsys, tmp_path):
    """One line, and no success; nobody is left out in silence."""
    monkeypatch.setattr(fetching, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", "")

    assert judges.main() == 1
    verdict, reason = capsys.readouterr().out.splitlines()
    assert verdict.startswith("no  chart: Helm is here")
    assert "helm: go is not on this machine; install Go 1.22 or newer" in reason
