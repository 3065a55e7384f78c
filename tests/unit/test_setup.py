"""What `make setup` makes of the folder that it finds; uv only notes what it is asked for."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# The real one, but for what it says of its version.
OTHER_PYTHON = """#!/bin/sh
[ "$1" = --version ] && echo "Python {major}.{minor}.0" && exit
exec "{python}" -c "import sys; sys.version_info = ({major}, {minor}, 0, 'final', 0)
$2"
"""
UV = """#!/bin/sh
[ "$1" = --version ] && exit
echo "$*" >>"$UV_SAID"
case $1 in venv) mkdir -p .venv/bin; ln -sf "$5" .venv/bin/python;; esac
case "$2" in install) printf '#!/bin/sh\\n' >.venv/bin/cb-dev; chmod +x .venv/bin/cb-dev;; esac
"""


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """Runs it in a folder; returns what uv was asked for, the first word of each."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "uv").write_text(UV)
    (bin_folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("UV_SAID", str(tmp_path / "said"))

    def run(folder):
        (tmp_path / "said").write_text("")
        subprocess.run([folder / "deploy/dev/setup.sh", "box"], check=True, stdout=subprocess.DEVNULL)
        return [line.split()[0] for line in (tmp_path / "said").read_text().splitlines()]

    return run


@pytest.fixture
def project(tmp_path):
    """A folder of a project like ours."""
    folder = tmp_path / "our project"
    for name in ("deploy/dev/setup.sh", "requirements/box.txt", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    return folder


def test_a_second_run_asks_for_nothing(setup, project):
    """It compares one checksum."""
    assert setup(project) == ["venv", "pip", "pip"]
    assert setup(project) == []


def test_new_requirements_keep_what_is_there(setup, project):
    """Only what differs is installed."""
    setup(project)
    (project / "requirements/box.txt").write_text("other==1\n")

    assert setup(project) == ["pip", "pip"]


def test_a_run_that_was_cut_short_goes_on(setup, project):
    """Nothing was noted yet."""
    setup(project)
    (project / ".venv/.locked").unlink()

    assert setup(project) == ["pip", "pip"]


@pytest.mark.parametrize("how", [shutil.move, functools.partial(shutil.copytree, symlinks=True)])
def test_a_folder_that_was_moved_or_copied_gets_commands_of_its_own(setup, project, tmp_path, how):
    """Those that came along run the code, and the box, of the folder in which they were made."""
    setup(project)
    how(project, tmp_path / "another")

    assert setup(tmp_path / "another") == ["venv", "pip", "pip"]
    assert setup(tmp_path / "another") == []


def install_python(folder, name, major, minor):
    """A python of that version, in a folder that is looked through first."""
    (folder / name).write_text(OTHER_PYTHON.format(major=major, minor=minor, python=sys.executable))
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("minor", "fits"), [(10, False), (11, True), (14, True), (15, False)])
def test_a_python_without_wheels_is_refused_in_one_line(setup, project, tmp_path, monkeypatch, capfd, minor, fits):
    """Else a compiler, where there is one, tells of its troubles over pages; the one that was named is the only one tried."""
    install_python(tmp_path / "bin", "mine", 3, minor)
    monkeypatch.setenv("PYTHON", "mine")
    try:
        setup(project)
    except subprocess.CalledProcessError:
        told = capfd.readouterr().err
    else:
        told = None

    refused = f"setup: needs Python 3.11 to 3.14, and mine is Python 3.{minor}.0. Name another one: make setup PYTHON="
    assert told is None if fits else told.startswith(refused) and told.count("\n") == 1


def test_beside_a_python_that_is_too_new_an_older_one_is_found(setup, project, tmp_path, monkeypatch):
    """Whose python3 is of this year may have last year's, too."""
    install_python(tmp_path / "bin", "python3", 3, 15)
    install_python(tmp_path / "bin", "python3.14", 3, 14)
    monkeypatch.delenv("PYTHON")
    setup(project)

    assert (project / ".venv/bin/python").resolve().name == "python3.14"
