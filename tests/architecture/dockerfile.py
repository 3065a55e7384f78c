"""A Dockerfile as its stages: what each begins from and says, and what a target says in all."""

import json
import re
from dataclasses import dataclass, field

from tests.architecture.source import ROOT

FILE = ROOT / "deploy/images/Dockerfile"


@dataclass
class Stage:
    """One `FROM … AS …` with its instructions, in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def said(self, word):
        return [arguments for instruction, arguments in self.instructions if instruction == word]


def stages(text):
    """Every stage by name; lines that end with a backslash go on, comments are gone."""
    found = {}
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, arguments = line.partition(" ")
        if word == "FROM":
            base, _, name = arguments.partition(" AS ")
            found[name] = Stage(base)
            last = name
        elif word:
            found[last].instructions.append((word, arguments.strip()))
    return found


def lineage(known, name):
    """The stages that a target is made of, its own last."""
    stage = known[name]
    return [*lineage(known, stage.base), stage] if stage.base in known else [stage]


def said(known, name, word):
    """Everything that a target says by this instruction, what it inherits first."""
    return [arguments for stage in lineage(known, name) for arguments in stage.said(word)]


def exec_form(arguments):
    """The words of a CMD, ENTRYPOINT or HEALTHCHECK that no shell reads, or None where one does."""
    try:
        words = json.loads(arguments)
    except json.JSONDecodeError:
        return None
    return words if isinstance(words, list) else None
