"""Every fault that `make sabotage` plants fits the code and has tests to notice it; whether they do, takes an hour to see."""

import re

import pytest

from tests.architecture.source import ROOT
from tests.faults import FAULTS


def misfits(fault):
    """The texts of a fault that do not stand exactly once in the file where they are to be replaced."""
    return [(name, old) for name, old, _ in fault.replacements if (ROOT / name).read_text().count(old) != 1]


def planted(fault):
    """The Python files as the fault leaves them, by name."""
    files = {name: (ROOT / name).read_text() for name, _, _ in fault.replacements if name.endswith(".py")}
    for name, old, new in fault.replacements:
        if name in files:
            files[name] = files[name].replace(old, new)
    return files


def unknown(fault):
    """The words that choose its tests (pytest's -k: of names, and of parameters) and stand in none of its files."""
    files, _, words = " ".join(fault.tests).partition(" -k ")
    text = "".join((ROOT / file).read_text() for file in files.split())
    return [word for word in re.split(" or | and ", words) if word not in text]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_and_has_its_test(fault):
    """Whoever changes the line that it replaces, or renames the test that notices it, changes tests/faults.py."""
    assert misfits(fault) == []
    assert unknown(fault) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_a_fault_leaves_is_python(fault):
    """Code that does not even compile turns every test red, and none of them would have noticed the fault itself."""
    for name, text in planted(fault).items():
        compile(text, name, "exec")
