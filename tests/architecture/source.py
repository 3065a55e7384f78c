"""The product's source as trees: what the rules of the house are held against."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("ingress", "consumers", "shared", "deploy")


@dataclass(frozen=True)
class Module:
    """One file of the product."""

    path: str
    tree: ast.Module

    @functools.cached_property
    def names(self):
        """Every identifier that the file uses: names, attributes, arguments of calls, imported names, strings of one word.

        A string counts, since a setting may be handed over as `**{"max_workers": 4}`.
        """
        return frozenset(name for node in ast.walk(self.tree) for name in _names(node))

    @functools.cached_property
    def imports(self):
        """Every module or name that the file imports, in full: `aiohttp`, `aiohttp.web`."""
        return frozenset(name for node in ast.walk(self.tree) for name in _imported(node))

    @functools.cached_property
    def strings(self):
        """Every string of the file but its docstrings and comments."""
        holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        documented = (node for node in ast.walk(self.tree) if isinstance(node, holders))
        prose = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
        constants = (node for node in ast.walk(self.tree) if isinstance(node, ast.Constant) and id(node) not in prose)
        return [node.value for node in constants if isinstance(node.value, str)]


def module(path, text):
    """A file as a tree; for what is planted as for what is there."""
    return Module(path, ast.parse(text))


@functools.cache
def product():
    """Every Python file of the product."""
    paths = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return tuple(module(str(path.relative_to(ROOT)), path.read_text()) for path in paths)


def _names(node):
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)) | ast.arg(arg=name):
            yield name
        case ast.alias(name=name):
            yield from name.split(".")
        case ast.Constant(value=str(text)) if text.isidentifier():
            yield text


def _imported(node):
    match node:
        case ast.Import(names=aliases):
            for alias in aliases:
                yield from _prefixes(alias.name)
        case ast.ImportFrom(module=str(name), names=aliases):
            yield from _prefixes(name)
            yield from (f"{name}.{alias.name}" for alias in aliases)


def _prefixes(name):
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))
