"""Form bodies and query strings in every spelling that Stripe takes: ``a[b][0][c]=v``, ``a[]=v``, ``a[][b]=v``.

Pairs as they came over the wire enter; a tree of dictionaries leaves, in which a list is a dictionary with numbers
for keys (``params`` knows where a list is expected). Next: ``params``.
"""

import re
from collections.abc import Iterable

from deploy.dev.stripe.errors import bad_parameter

Tree = dict[str, "Tree | str"]
DEPTH_MAX = 10  # Stripe's deepest parameter has six levels; this keeps a hostile body from recursing

_NAME = re.compile(r"[^\[\]]+(\[[^\[\]]*\])*")


def parse(pairs: Iterable[tuple[str, str]]) -> Tree:
    """Return the tree that these decoded pairs spell; a name that makes no sense is a 400."""
    root: Tree = {}
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise bad_parameter(f"Invalid parameter name: {name}", name)
        head, *rest = name.replace("]", "").split("[")
        if len(rest) > DEPTH_MAX:
            raise bad_parameter(f"Invalid parameter name: {name}", name)
        _put(root, [head, *rest], value, name)
    return root


def _put(node: Tree, path: list[str], value: str, name: str) -> None:
    key, *rest = path
    if not key:
        key = _next_index(node, rest)
    if not rest:
        if isinstance(node.get(key), dict):
            raise bad_parameter("Invalid string", name)
        node[key] = value
        return
    child = node.setdefault(key, {})
    if not isinstance(child, dict):
        raise bad_parameter("Invalid object", name)
    _put(child, rest, value, name)


def _next_index(node: Tree, rest: list[str]) -> str:
    """``a[][b]`` goes on with the last element until that one has a ``b``; ``a[]`` always begins another."""
    last = str(len(node) - 1)
    element = node.get(last)
    if rest and rest[0] and isinstance(element, dict) and rest[0] not in element:
        return last
    return str(len(node))
