"""`cb-ops migrate` and `cb-ops attention` against a real PostgreSQL."""

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.ops.cli import app
from shared.db import attention


def environment_of(database):
    return {"DATABASE_URL": database.database_url.get_secret_value()}


async def run(database, *arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment_of(database))


async def run_as_process(database, *arguments, stdout=asyncio.subprocess.PIPE, **environment):
    """The command as a script calls it: what it logs goes to stderr, and stdout holds the answer alone."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.ops", *arguments),
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], **environment_of(database), **environment},
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, trouble = await process.communicate()
    return process.returncode, (answer or b"").decode(), trouble.decode()


@pytest.fixture
async def opened(engine):
    """Two matters, put before an operator one after the other."""
    for aggregate in ("payment:1", "payment:2"):
        async with engine.begin() as tx:
            await attention.open_(tx, reason="amount_mismatch", aggregate=aggregate, cause="evt_1")


async def test_migrating_twice_changes_nothing_the_second_time(empty_database):
    """The first run names what it ran, the second says that there was nothing."""
    status, answer, log = await run_as_process(empty_database, "migrate")
    again = await run(empty_database, "migrate")

    assert (status, answer.splitlines()[0]) == (0, "ran 0001")
    assert "migration.ran" in log
    assert (again.exit_code, again.stdout, again.stderr) == (0, "nothing to do: the database has the newest shape\n", "")


async def test_what_waits_for_a_person_is_listed_oldest_first(database, opened):
    """Reason, what it is about, and what caused it."""
    shown, machine = await run(database, "attention", "list"), await run(database, "attention", "list", "--json")

    assert [(one["reason"], one["aggregate"]) for one in json.loads(machine.stdout)] == [
        ("amount_mismatch", "payment:1"),
        ("amount_mismatch", "payment:2"),
    ]
    assert "amount_mismatch" in shown.stdout
    assert "payment:2" in shown.stdout


async def test_a_resolved_matter_is_off_the_list_and_keeps_who_did_it_first(database, opened):
    """Resolving twice has no second effect."""
    [one, other] = json.loads((await run(database, "attention", "list", "--json")).stdout)

    status, answer, log = await run_as_process(database, "attention", "resolve", one["id"], "--by", "Ada")
    again = await run(database, "attention", "resolve", one["id"], "--by", "Grace")

    assert (status, answer) == (0, "resolved amount_mismatch of payment:1\n")
    assert one["id"] in log
    assert (again.exit_code, again.stdout, again.stderr) == (
        0,
        "amount_mismatch of payment:1 was resolved by Ada already\n",
        "",
    )
    assert [other] == json.loads((await run(database, "attention", "list", "--json")).stdout)
    everything = json.loads((await run(database, "attention", "list", "--all", "--json")).stdout)
    assert [each["resolved_by"] for each in everything] == ["Ada", None]


async def test_a_matter_that_is_not_there_is_a_failure(database):
    """Nothing is resolved by guessing."""
    unknown = uuid.uuid4()
    result = await run(database, "attention", "resolve", str(unknown), "--by", "Ada")

    assert (result.exit_code, result.stderr) == (1, f"no matter has the id {unknown}\n")


async def test_a_database_without_our_tables_is_told_what_to_do(empty_database):
    """The cure stands in the line."""
    result = await run(empty_database, "attention", "list")

    assert result.exit_code == 1
    assert result.stderr.endswith("lacks our tables: run `cb-ops migrate`\n")
    assert result.stderr.count("\n") == 1


async def test_a_database_of_an_earlier_release_is_told_what_to_do(database, engine):
    """It has the table, and not yet the column."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql("alter table attention drop column cause")
    result = await run(database, "attention", "list")

    assert result.exit_code == 1
    assert result.stderr.endswith(' lacks what this release asks for (column "cause" does not exist): run `cb-ops migrate`\n')
    assert result.stderr.count("\n") == 1


async def test_nothing_waiting_is_an_answer(database):
    """Emptiness is said, and is an empty list for a script."""
    assert (await run(database, "attention", "list")).stdout == "nothing waits for a person\n"
    assert json.loads((await run(database, "attention", "list", "--json")).stdout) == []


@pytest.mark.parametrize("command", [("attention", "list"), ("templates", "show", "layout.html")], ids=" ".join)
async def test_an_answer_for_which_there_is_no_room_is_one_line_and_a_failure(database, opened, command):
    """A script must not take half of it for all, nor a person read a traceback."""
    full = os.open("/dev/full", os.O_WRONLY)
    status, _, trouble = await run_as_process(database, *command, stdout=full)
    os.close(full)

    assert (status, trouble) == (1, "the answer could not be written: No space left on device\n")


async def test_who_stops_reading_an_answer_hears_no_more(database, opened):
    """`cb-ops … | head -1`: the reader went first."""
    reading, writing = os.pipe()
    os.close(reading)
    status, _, trouble = await run_as_process(database, "attention", "list", "--json", stdout=writing)
    os.close(writing)

    assert (status, trouble) == (1, "")


async def test_an_answer_in_letters_that_the_output_lacks_is_told_all_the_same(database, engine):
    """A question mark is better than a traceback."""
    async with engine.begin() as tx:
        await attention.open_(tx, reason="amount_mismatch", aggregate="payment:→", cause="evt_1")

    status, answer, trouble = await run_as_process(database, "attention", "list", PYTHONIOENCODING="ascii")

    assert (status, trouble) == (0, "")
    assert "payment:?" in answer


async def test_a_text_is_shown_whole_or_not_at_all(database, tmp_path):
    """What was shown is put again: a letter of which question marks were made would say them to everybody."""
    (tmp_path / "subject").write_text("Booked: Bürgersprache\n", encoding="utf-8")
    name = "client_confirmation/subject.txt"
    assert (await run(database, "templates", "put", name, str(tmp_path / "subject"), "--by", "Ada")).exit_code == 0

    status, answer, trouble = await run_as_process(database, "templates", "show", name, PYTHONIOENCODING="ascii")

    assert (status, answer) == (2, "")
    assert "PYTHONIOENCODING=utf-8" in trouble
    assert "Traceback" not in trouble


async def test_a_preview_that_cannot_be_written_is_told_of(database, tmp_path):
    """A folder that is not there is a mistake in the call."""
    result = await run(database, "templates", "preview", "client_confirmation", "--html", str(tmp_path / "none" / "x.html"))

    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr
