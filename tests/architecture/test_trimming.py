"""What an image leaves out of its packages is read by nobody: ours is imported, and letters are written, without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import babel
import pytest

from consumers.email import compose
from deploy.images import trim
from tests.architecture.source import ROOT
from tests.images import words

PACKAGES = Path(babel.__file__).parent.parent
OURS = ("shared", "ingress", "consumers", "deploy.ops")
IMPORTING = """
import runpy, sys
from deploy.images import bytecode
_, words, *rooms = sys.argv
bytecode.bring_in(rooms)
runpy.run_path(words, run_name="__main__")
"""


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory):
    """This machine's packages as an image has them; made of links."""
    folder = tmp_path_factory.mktemp("packages")
    concerned = {path.relative_to(PACKAGES).parts[0] for path in trim.dropped(PACKAGES)}
    for path in PACKAGES.iterdir():
        if path.name in concerned:
            shutil.copytree(path, folder / path.name, copy_function=os.symlink)
        else:
            (folder / path.name).symlink_to(path)
    trim.drop(folder)
    return folder


def run(packages, *arguments):
    """Run Python on these packages and ours alone; return what it says."""
    variables = {"PYTHONPATH": f"{ROOT}:{packages}", "PATH": os.environ["PATH"]}
    # Without `site` nothing of the environment that runs this test is found.
    ran = subprocess.run([sys.executable, "-S", *arguments], env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def test_ours_is_imported_without_it_and_letters_say_the_same(trimmed):
    """At any depth; and in every currency, of every day, for every zone the words that the whole of the packages has."""
    found, whole = (
        json.loads(run(packages, "-c", IMPORTING, words.__file__, *rooms))
        for packages, rooms in ((trimmed, OURS), (PACKAGES, ()))
    )

    assert found == whole
    assert len(found["amounts"]) > 250
    assert found["amounts"]["EUR"] == "€1,234,560.00"
    assert len(found["zones"]) > 400


def test_the_locales_that_stay_are_those_of_letters():
    """And what these inherit from."""
    assert compose.LOCALE in trim.LOCALES
    assert trim.LOCALES[0] == "root"


def test_each_pattern_still_finds_something(trimmed):
    """One that a package's new version has outlived is taken off the list."""
    assert [pattern for pattern in trim.DROPPED if not any(PACKAGES.glob(pattern))] == []
    assert trim.dropped(trimmed) == []
    assert all((trimmed / name).exists() for name in trim.KEPT)
