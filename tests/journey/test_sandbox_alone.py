"""The sandbox for a project that is not ours: what its README tells is done word by word, on ports of this test's own."""

import os
import re
import shlex
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.dev.processes.ports import any_free
from deploy.dev.stripe import __main__ as command_line
from deploy.dev.stripe import store

README = (Path(__file__).parent.parent.parent / "deploy/dev/stripe/README.md").read_text()
FORM = {"email": "ada@example.org", "number": "5555 5555 5555 4444", "expiry": "12/34", "cvc": "123"}


@pytest.fixture
def told():
    """The command and the program of the README, each with free ports instead of the usual ones."""
    chapter = README.partition("## For your own project")[2].partition("\n## ")[0]
    [command], [program] = (re.findall(rf"```{kind}\n(.*?)```", chapter, re.DOTALL) for kind in ("sh", "python"))
    ours, theirs = any_free(()), any_free(())
    command, program = (text.replace("12111", str(ours)).replace("5000", str(theirs)) for text in (command, program))
    setup, start = command.splitlines()
    assert setup.startswith("make setup")
    python, *words = shlex.split(start)
    assert python == ".venv/bin/python"
    return [*words, "--port", str(ours)], program


@contextmanager
def running(*words, folder):
    """A Python of its own, away from this repository and from the secrets of its box; its lines can be read."""
    command = [sys.executable, "-u", *words]
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
    with subprocess.Popen(command, cwd=folder, env=elsewhere, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout
        finally:
            process.terminate()


def test_a_shop_of_ten_lines_sells_a_teapot(told, tmp_path):
    """A session is made, its page is paid, and a webhook arrives that the official library takes for true."""
    command, program = told
    with running(*command, folder=tmp_path) as sandbox:
        assert sandbox.readline().startswith("stripe sandbox ready on ")
        with running("-c", program, folder=tmp_path) as shop:
            [url] = re.findall(r"^pay at (\S+)$", shop.readline())
            with urllib.request.urlopen(url) as shown:
                page = shown.read().decode()
            assert all(words in page for words in ("Teapots", "A blue teapot", "€42.00"))
            with urllib.request.urlopen(url, urllib.parse.urlencode(FORM).encode()) as back:
                assert back.read() == b"Thank you!"
            heard = {}
            while "checkout.session.completed" not in heard:
                _, _, kind, object_id = shop.readline().split()
                heard[kind] = object_id

    assert heard["checkout.session.completed"] in url
    assert "payment_intent.succeeded" in heard


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--webhook", "localhost:5000/hook"], "not an address: 'localhost:5000/hook'"),
        (["--webhook", "/hook"], "not an address"),
        (["--webhook", "http://127.0.0.1:5000/", "--public-url", "shop.example"], "not an address"),
        (["--webhook", "http://127.0.0.1:5000/", "--port", "99999"], "between 0 and 65535"),
    ],
)
def test_a_word_that_cannot_be_is_refused_at_the_start(monkeypatch, capsys, words, said):
    """Else every webhook would be lost, and nobody would know why."""
    monkeypatch.setattr(sys, "argv", ["stripe", *words])
    with pytest.raises(SystemExit) as ended:
        command_line.main()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_state_that_is_none_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    """The file is another program's, or was damaged."""
    (tmp_path / store.FILE).write_bytes(b"this is no database, and never was one")
    words = ["stripe", "--webhook", "http://127.0.0.1:5000/", "--port", "0", "--state-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)

    assert command_line.main() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "file is not a database" in line
    assert str(tmp_path) in line


def test_a_state_is_of_one_sandbox_while_it_lives(monkeypatch, capsys, tmp_path):
    """Two would give the same ids to different things."""
    words = ["stripe", "--webhook", "http://127.0.0.1:5000/", "--port", "0", "--state-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(store, "LOCK_SECONDS_MAX", 0.1)
    other = store.Store(tmp_path)

    assert command_line.main() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "database is locked" in line
    other.close()
