"""What a request may ask, declared: each endpoint is a table of parameters and the rule each must pass.

A tree from ``forms`` enters, typed values leave; an absent parameter stays absent. Every refusal names its parameter
by path (``line_items[0][quantity]``), as Stripe does. Next: ``api``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from deploy.dev.stripe.errors import bad_parameter
from deploy.dev.stripe.forms import Tree

Node = Tree | str
Rule = Callable[[Node, str], Any]

METADATA_KEYS_MAX = 50  # docs.stripe.com/metadata
METADATA_KEY_CHARACTERS_MAX = 40
METADATA_VALUE_CHARACTERS_MAX = 500

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def read(tree: Node, rules: Mapping[str, Rule], *, required: tuple[str, ...] = (), path: str = "") -> dict[str, Any]:
    """Return the values of an object's parameters; unknown, missing and malformed ones are refused."""
    if isinstance(tree, str):
        raise bad_parameter("Invalid object", path)
    for name in tree:
        if name not in rules:
            where = _below(path, name)
            raise bad_parameter(f"Received unknown parameter: {where}", where, "parameter_unknown")
    for name in required:
        if name not in tree:
            where = _below(path, name)
            raise bad_parameter(f"Missing required param: {where}.", where, "parameter_missing")
    return {name: _value(rules[name], value, _below(path, name)) for name, value in tree.items()}


@dataclass(frozen=True)
class _Unsettable:
    rule: Rule
    empty: Any

    def __call__(self, node: Node, path: str) -> Any:
        return self.empty if node == "" else self.rule(node, path)


def unsettable(rule: Rule, empty: object = None) -> Rule:
    """Accept an empty string as ``empty``, anything else by ``rule``; no other parameter may be empty.

    Which can be unset is told by Stripe's libraries, whose types are ``"" | …`` there. Texts of an update can be, too.
    """
    return _Unsettable(rule, empty)


def group(rules: Mapping[str, Rule], *, required: tuple[str, ...] = ()) -> Rule:
    """Accept an object with these parameters."""
    return lambda node, path: read(node, rules, required=required, path=path)


def each(rule: Rule) -> Rule:
    """Accept a list, every element by ``rule``."""

    def accept(node: Node, path: str) -> list[Any]:
        if isinstance(node, str) or not all(key.isascii() and key.isdigit() for key in node):
            raise bad_parameter("Invalid array", path)
        return [_value(rule, node[key], _below(path, key)) for key in sorted(node, key=int)]

    return accept


def one_or(single: Rule, several: Rule) -> Rule:
    """Accept a plain value by the first rule, an object by the second."""
    return lambda node, path: single(node, path) if isinstance(node, str) else several(node, path)


def text(*, characters_max: int = 5000) -> Rule:
    """Accept a string."""

    def accept(node: Node, path: str) -> str:
        value = _string(node, path)
        if len(value) > characters_max:
            raise bad_parameter(f"Invalid string: {value[:8]}…; must be at most {characters_max} characters", path)
        return value

    return accept


def integer(*, least: int | None = None, most: int | None = None) -> Rule:
    """Accept a whole number."""

    def accept(node: Node, path: str) -> int:
        value = _string(node, path)
        if not re.fullmatch(r"-?[0-9]{1,15}", value):
            raise bad_parameter(f"Invalid integer: {value}", path, "parameter_invalid_integer")
        number = int(value)
        if least is not None and number < least:
            message = f"This value must be greater than or equal to {least}."
            raise bad_parameter(message, path, "parameter_invalid_integer")
        if most is not None and number > most:
            message = f"This value must be less than or equal to {most}."
            raise bad_parameter(message, path, "parameter_invalid_integer")
        return number

    return accept


def boolean(node: Node, path: str) -> bool:
    """Accept ``true`` or ``false``."""
    value = _string(node, path)
    if value not in {"true", "false"}:
        raise bad_parameter(f"Invalid boolean: {value}", path)
    return value == "true"


def choice(*values: str) -> Rule:
    """Accept one of these words."""

    def accept(node: Node, path: str) -> str:
        value = _string(node, path)
        if value not in values:
            listed = values[0] if len(values) == 1 else ", ".join(values[:-1]) + f", or {values[-1]}"
            raise bad_parameter(f"Invalid {path}: must be one of {listed}", path)
        return value

    return accept


def url(node: Node, path: str) -> str:
    """Accept an absolute http or https address; ``{CHECKOUT_SESSION_ID}`` may stand in it."""
    value = _string(node, path)
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not value.isprintable() or " " in value:
        raise bad_parameter("Not a valid URL", path, "url_invalid")
    return value


def email(node: Node, path: str) -> str:
    """Accept what looks like a mail address."""
    value = _string(node, path)
    if not looks_like_email(value):
        raise bad_parameter(f"Invalid email address: {value}", path, "email_invalid")
    return value


def looks_like_email(value: str) -> bool:
    """Return whether this could be a mail address (shape only)."""
    return bool(_EMAIL.fullmatch(value)) and len(value) <= 254  # noqa: PLR2004 - RFC 5321, erratum 1690


def metadata(node: Node, path: str) -> dict[str, str]:
    """Accept pairs of strings within Stripe's limits; an empty value is no pair."""
    return merged({}, _pairs(node, path))


def _pairs(node: Node, path: str) -> dict[str, str]:
    if isinstance(node, str):
        raise bad_parameter("Invalid object", path)
    if len(node) > METADATA_KEYS_MAX:
        raise bad_parameter(f"You can specify at most {METADATA_KEYS_MAX} metadata keys.", path)
    pairs: dict[str, str] = {}
    for key, child in node.items():
        where = _below(path, key)
        value = _string(child, where)
        if len(key) > METADATA_KEY_CHARACTERS_MAX:
            raise bad_parameter(f"Metadata keys can have up to {METADATA_KEY_CHARACTERS_MAX} characters.", where)
        if len(value) > METADATA_VALUE_CHARACTERS_MAX:
            message = f"Metadata values can have up to {METADATA_VALUE_CHARACTERS_MAX} characters."
            raise bad_parameter(message, where)
        pairs[key] = value
    return pairs


# What to change in metadata: an empty value removes its key, an empty string all of them (None).
metadata_change = unsettable(_pairs)


def merged(old: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Return metadata after a change (``metadata_change``)."""
    return {} if change is None else {key: value for key, value in (old | change).items() if value}


def _value(rule: Rule, node: Node, path: str) -> Any:
    """Return what the rule makes of it; an empty string unsets, which not every parameter can be."""
    if node == "" and not isinstance(rule, _Unsettable):
        message = (
            f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter;"
            f" however '{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty"
            " value."
        )
        raise bad_parameter(message, path, "parameter_invalid_empty")
    return rule(node, path)


def _string(node: Node, path: str) -> str:
    if not isinstance(node, str):
        raise bad_parameter("Invalid string", path)
    return node


def _below(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name
