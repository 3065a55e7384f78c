"""The API's description (OpenAPI), and what is held to it: every answer of a door in a test."""

import json

import jsonschema_rs

from ingress import pages

DESCRIPTION = json.loads(pages.OPENAPI)
RESPONSES = {
    (method.upper(), path, int(status)): response
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
    for status, response in operation["responses"].items()
}


def validator(schema, *, closed=False):
    """What judges values by a schema of the description; `closed`: fields that it does not name are faults, too."""
    told = {"allOf": [schema], "components": DESCRIPTION["components"], **({"unevaluatedProperties": False} if closed else {})}
    return jsonschema_rs.Draft202012Validator(told, validate_formats=True)


VALIDATORS = {
    (*asked, kind): validator(content["schema"], closed=True)
    for asked, response in RESPONSES.items()
    for kind, content in response["content"].items()
}


def hold(method, path, status, kind, body):
    """Raise when this is no answer that the description knows, down to the `code`; readers may get more fields, never here."""
    judge = VALIDATORS.get((method, path, status, kind))
    assert judge is not None, f"{method} {path} answers {status} {kind}, which is not described"
    judge.validate(body)
