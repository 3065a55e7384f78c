"""What `make setup` makes of the folder that it finds; uv only notes what it is asked for."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until_blocking

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
while [ -e "$UV_SAID.hold" ]; do sleep 0.02; done
case $1 in venv)
    rm -rf .venv
    mkdir -p .venv/bin
    ln -s "$5" .venv/bin/python
    echo "home = $(dirname "$(realpath "$5")")" >.venv/pyvenv.cfg;;
esac
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


def test_of_two_at_once_the_second_waits(setup, project, tmp_path):
    """One terminal begins with the demo, another with the tests: neither takes away what the other just installs."""
    said, told, hold = tmp_path / "said", tmp_path / "told", tmp_path / "said.hold"
    said.touch()
    hold.touch()
    script = project / "deploy/dev/setup.sh"
    with told.open("w") as output:
        first = subprocess.Popen([script, "box"], stdout=subprocess.DEVNULL)
        until_blocking(lambda: "venv" in said.read_text(), "the first is at work")
        second = subprocess.Popen([script, "tests"], stdout=output)
        until_blocking(lambda: "waiting" in told.read_text() or said.read_text().count("venv ") > 1, "the second goes on")
    hold.unlink()

    assert (first.wait(), second.wait()) == (0, 0)
    assert [line.split()[0] for line in said.read_text().splitlines()] == ["venv", "pip", "pip", "pip", "pip"]
    assert (project / ".venv/.locked").read_text().startswith("tests\n")


def test_a_folder_of_the_same_shape_on_cdpath_is_left_alone(setup, project, tmp_path, monkeypatch):
    """A shell whose CDPATH leads into another clone means that for what is typed."""
    shutil.copytree(project, tmp_path / "another")
    monkeypatch.setenv("CDPATH", str(tmp_path / "another"))
    monkeypatch.chdir(project)
    setup(Path())

    assert (project / ".venv").exists()
    assert not (tmp_path / "another/.venv").exists()


def test_what_the_shell_says_of_other_pythons_is_not_about_ours(setup, project, monkeypatch):
    """With a PYTHONHOME from elsewhere no Python starts, and each is called none of the right version."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")

    assert setup(project) == ["venv", "pip", "pip"]


@pytest.mark.parametrize("name", ["PYTHONHOME", "PYTHONPATH"])
def test_modules_from_elsewhere_do_not_stand_before_ours(setup, project, monkeypatch, name):
    """`shared` is a name that others use, too."""
    setup(project)
    shutil.copy(PROJECT / "Makefile", project)
    (project / ".venv/bin/cb-dev").write_text(f'#!/bin/sh\necho "{name}=${name}"\n')
    monkeypatch.setenv(name, "/nowhere")
    for of_the_make_around_us in ("MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(of_the_make_around_us, raising=False)
    ran = subprocess.run(["make", "demo"], cwd=project, check=True, capture_output=True, text=True)

    assert ran.stdout == f"{name}=\n"


def test_how_other_projects_are_installed_is_not_how_ours_is(setup, project, tmp_path, monkeypatch):
    """Our own code has no hash, and pip can not install for a user what goes into a folder."""
    (tmp_path / "bin/uv").write_text(UV.replace('"$*" >>', '"PIP_USER=$PIP_USER,UV_REQUIRE_HASHES=$UV_REQUIRE_HASHES" >>'))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("UV_REQUIRE_HASHES", "1")

    assert setup(project) == ["PIP_USER=0,UV_REQUIRE_HASHES="] * 3


@pytest.mark.parametrize("config", ["", f"home = {Path(sys.executable).resolve().parent}\n"])
def test_an_environment_that_ours_cannot_be_is_made_anew(setup, project, tmp_path, config):
    """An editor has made one of a Python that is too old; or one is half made, and is the machine's own Python still."""
    (project / ".venv/bin").mkdir(parents=True)
    if config:
        (project / ".venv/pyvenv.cfg").write_text(config)
        install_python(project / ".venv/bin", "python", 3, 10)
    else:
        (project / ".venv/bin/python").symlink_to(Path(sys.executable).resolve())

    assert setup(project) == ["venv", "pip", "pip"]


def test_the_index_of_pips_own_file_is_uvs(setup, project, tmp_path, monkeypatch):
    """Where pip has fetched uv, its configuration leads to the packages: a company's mirror stands in pip.conf as a rule."""
    pip = '#!/bin/sh\n[ "$*" = "-m pip config get global.index-url" ] && echo https://mirror.example/simple\n'
    (project / ".uv/bin").mkdir(parents=True)
    for name, text in {"uv": UV.replace('"$*" >>', '"$UV_DEFAULT_INDEX" >>'), "python": pip}.items():
        (project / ".uv/bin" / name).write_text(text)
        (project / ".uv/bin" / name).chmod(0o755)
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin/uv").write_text("#!/bin/sh\nexit 1\n")

    assert setup(project) == ["https://mirror.example/simple"] * 3


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
