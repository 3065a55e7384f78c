"""The JSON Schemas that other services are given for our public topics, and what is held to them."""

import json
from pathlib import Path

import jsonschema_rs

FOLDER = Path(__file__).parents[2] / "docs" / "topics"
SCHEMAS = {
    path.name.partition(".v1.")[0]: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.events.v1.schema.json"))
}
VALIDATORS = {topic: jsonschema_rs.Draft202012Validator(schema, validate_formats=True) for topic, schema in SCHEMAS.items()}


def hold(topic, value):
    """Raise jsonschema_rs.ValidationError when a value is not what the schema of its topic says; other topics have none."""
    if topic in VALIDATORS:
        VALIDATORS[topic].validate(json.loads(value))
