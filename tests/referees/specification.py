"""From Stripe's OpenAPI document to the schemas that judge the sandbox: names, types, nullability, enums, and no prose.

Enters: `spec3.json` as it stands in the Go module of stripe-mock. Leaves: JSON Schemas (2020-12) of the objects that the
sandbox speaks of, and of what they hold, in the full mode that the document as shipped does not ask for: no unknown key,
every nullable key present. Next: `judge`.
"""

import json
from pathlib import Path

FILE = Path(__file__).parent / "schemas.json"

SPOKEN = (
    *("account", "balance_transaction", "charge", "checkout.session", "deleted_webhook_endpoint", "dispute", "error", "event"),
    *("item", "payment_intent", "payment_method", "price", "product", "refund", "webhook_endpoint"),
)
# Stripe takes fifty methods of payment, each with schemas of its own; another key than these is an unknown one.
METHODS = frozenset({"card", "sepa_debit"})
IN_DEFS = "#/$defs/"


def distill(document):
    """Return the schemas by name: what is spoken of, and everything that is reached from there."""
    distiller = _Distiller(document["components"]["schemas"])
    found, waiting = {}, list(SPOKEN)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = distiller.named(name)
            waiting += distiller.mentioned
    listed = document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    found["list"] = distiller.schema(listed)
    found["list"]["properties"]["data"] = {"type": "array"}  # each is judged by what it says that it is
    kinds = document["paths"]["/v1/webhook_endpoints"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    enabled = kinds["schema"]["properties"]["enabled_events"]["items"]["enum"]
    found["event"]["properties"]["type"] = {"enum": sorted(set(enabled) - {"*"})}
    return dict(sorted(found.items()))


def written(schemas):
    """Return the text of schemas.json: a line for each schema, so that a difference is seen."""
    compact = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    lines = (f"{compact(name)}:{compact(schema)}" for name, schema in schemas.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read():
    """Return the schemas that are committed."""
    return json.loads(FILE.read_text())


class _Distiller:
    """Takes what a schema says about shape, and notes which others it mentions."""

    def __init__(self, schemas):
        self._schemas = schemas
        self._other_methods = set(schemas["payment_method"]["properties"]["type"]["enum"]) - METHODS
        self.mentioned = []

    def named(self, name):
        self.mentioned = []
        return self.schema(self._schemas[name])

    def schema(self, told):
        if "$ref" in told:
            return self._reference(told)
        if "anyOf" in told:
            return self._choice(told)
        shape = {name: told[name] for name in ("type", "enum") if name in told}
        if "properties" in told:
            shape |= self._object(told)
        elif isinstance(told.get("additionalProperties"), dict):
            shape["additionalProperties"] = self.schema(told["additionalProperties"])
        if "items" in told:
            shape["items"] = self.schema(told["items"])
        if told.get("nullable"):
            shape |= {"type": [shape["type"], "null"]} | ({"enum": [*shape["enum"], None]} if "enum" in shape else {})
        return shape

    def _object(self, told):
        known = {name: self.schema(inner) for name, inner in told["properties"].items() if self._is_spoken(name, inner)}
        nullable = {name for name, inner in told["properties"].items() if inner.get("nullable")}
        required = sorted((nullable | set(told.get("required", ()))) & set(known))
        return {"properties": known, "required": required, "additionalProperties": False}

    def _choice(self, told):
        """An id or the object itself, an object or null, one of several; told so that a complaint names the exact place."""
        objects = [each["$ref"].rpartition("/")[2] for each in told["anyOf"] if "$ref" in each]
        spoken = [name for name in objects if self._is_object_spoken(name)]
        plain = [self.schema(each) for each in told["anyOf"] if "$ref" not in each]
        plain += [{"type": "null"}] if told.get("nullable") else []
        self.mentioned += spoken
        inner = [{"$ref": IN_DEFS + name} for name in spoken]
        if len(inner) == 1 and all(set(each) == {"type"} for each in plain):
            return {"if": {"type": [each["type"] for each in plain]}, "then": {}, "else": inner[0]} if plain else inner[0]
        if not inner and not plain:
            return False  # none of these objects is spoken of
        if not inner and all(set(each) == {"type"} for each in plain):
            return {"type": [each["type"] for each in plain]}
        return {"anyOf": [*plain, *inner]}

    def _reference(self, told):
        name = told["$ref"].rpartition("/")[2]
        self.mentioned.append(name)
        return {"$ref": IN_DEFS + name}

    def _is_spoken(self, name, told):
        """Whether a property may be there: not another method's, and not always an object of which nobody speaks."""
        choices = told.get("anyOf", [told])
        objects = [each["$ref"].rpartition("/")[2] for each in choices if "$ref" in each]
        if name in self._other_methods and objects:
            return False
        return len(objects) < len(choices) or told.get("nullable", False) or any(map(self._is_object_spoken, objects))

    def _is_object_spoken(self, name):
        is_object = "enum" in self._schemas[name].get("properties", {}).get("object", {})
        return name in SPOKEN or not is_object
