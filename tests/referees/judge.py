"""What is wrong with one body of the sandbox, by the schemas that Stripe publishes; pure.

A body enters: an object, a list of them, an event, or an error. Complaints leave, none where all is as it should be. Each
object is judged by the schema of the kind that it says it is, also inside a list and inside an event.
"""

import copy
from dataclasses import dataclass
from functools import cache

import jsonschema_rs

from tests.referees import specification
from tests.referees.differences import ADDITIONS, KNOWN

PROBLEMS = jsonschema_rs.ValidationErrorKind


@dataclass(frozen=True)
class Complaint:
    """`place` is a path from the kind of the innermost object on, such as `charge.outcome.type`; `detail` is for people."""

    place: str
    problem: str
    detail: str = ""

    @property
    def key(self):
        """How `differences` calls it."""
        return f"{self.place}: {self.problem}"

    def __str__(self):
        return f"{self.key} ({self.detail})" if self.detail else self.key


def judge(body):
    """Return the complaints about a body, without those that are known to be none."""
    return [complaint for complaint in complaints(body) if complaint.key not in KNOWN]


def complaints(body):
    """Return every complaint about a body."""
    kind = kind_of(body)
    if kind not in schemas():
        return [Complaint(kind or "nothing", "no schema")]
    found = _found(kind, _validator(kind), body)
    match kind:
        case "list" if not found:
            return [each for thing in body["data"] for each in complaints(thing)]
        case "event" if not found:
            subject = body["data"]["object"]
            return complaints(subject) + _previous(kind_of(subject), body["data"].get("previous_attributes", {}))
        case _:
            return found


def kind_of(body):
    """Return what a body says that it is; None where it says nothing."""
    match body:
        case {"object": str(kind), "deleted": True}:
            return f"deleted_{kind}"
        case {"object": str(kind)}:
            return kind
        case {"error": dict()}:
            return "error"
        case _:
            return None


def amended(distilled):
    """Return the specification's schemas with what is added to them; ValueError where it has learnt an addition by itself."""
    told = copy.deepcopy(distilled)
    for place, addition in ADDITIONS.items():
        kind = max((name for name in told if place.startswith(f"{name}.")), key=len)
        *steps, last = place.removeprefix(f"{kind}.").split(".")
        shape = told[kind]
        for step in steps:
            reference = shape["properties"][step]
            shape = told[reference.get("else", reference)["$ref"].removeprefix(specification.IN_DEFS)]
        if last in shape["properties"]:
            raise ValueError(f"{place}: the specification knows it by now")
        shape["properties"][last] = addition.schema
        shape["required"].append(last)
    return told


@cache
def schemas():
    """Return what bodies are judged by, by kind."""
    return amended(specification.read())


def _previous(kind, attributes):
    """Judge what an event says was there before: some keys of the object, each with a value that it may have.

    Null is said of a key that was not there at all.
    """
    if kind not in schemas():
        return []
    told = {name: value for name, value in attributes.items() if value is not None or name not in schemas()[kind]["properties"]}
    return _found(kind, _validator(kind, whole=False), told)


@cache
def _validator(kind, *, whole=True):
    told = schemas()[kind] if whole else {name: told for name, told in schemas()[kind].items() if name != "required"}
    return jsonschema_rs.Draft202012Validator({**told, "$defs": schemas()})


def _found(kind, validator, body):
    return [complaint for error in validator.iter_errors(body) for complaint in _told(kind, body, error)]


def _told(kind, body, error):
    place, detail = _place(kind, body, error.instance_path), error.message[:200]
    match error.kind:
        case PROBLEMS.AdditionalProperties(unexpected=names):
            return [Complaint(f"{place}.{name}", "unknown key") for name in names]
        case PROBLEMS.Required(property=name):
            return [Complaint(f"{place}.{name}", "missing")]
        case PROBLEMS.Enum():
            return [Complaint(place, "unknown value", detail)]
        case _:
            return [Complaint(place, "wrong type", detail)]


def _place(kind, body, path):
    """Name a place from the innermost object on, so that an expanded object is called as it is alone."""
    place = kind
    for step in path:
        body = body[step]
        place += f".{step}" if isinstance(step, str) else "[]"
        if isinstance(body, dict) and kind_of(body) in schemas():
            place = kind_of(body)
    return place
