"""The letters' templates in the database: versions, upgrades, operators, and the letters that are written by them."""

import asyncio

import pytest
from typer.testing import CliRunner

from deploy.dev.mailbox import open_mailbox
from deploy.ops import templates
from deploy.ops.cli import app
from deploy.ops.errors import NotFound
from shared.db import letter_templates, migrate
from shared.db.engine import rows
from shared.letters.templates import FILES, released
from tests.contract.test_letters_due import CONFIRMED, booking
from tests.support.builders import Sale, insert_sales
from tests.support.consumers import Email
from tests.support.database import query

SUBJECT = "client_confirmation/subject.txt"


@pytest.fixture
def ops(database):
    """Run `cb-ops templates` on this test's database."""

    async def run(*arguments):
        environment = {"DATABASE_URL": database.database_url.get_secret_value()}
        return await asyncio.to_thread(CliRunner().invoke, app, ("templates", *arguments), env=environment)

    return run


async def in_database(engine, work):
    async with engine.begin() as tx:
        return await work(tx)


async def put(engine, by="kim", **sources):
    return await in_database(engine, lambda tx: letter_templates.put(tx, sources, by=by))


async def subject(engine, version=None):
    async with engine.begin() as tx:
        number = version or await letter_templates.newest(tx)
        return number, (await letter_templates.stored(tx, number))[SUBJECT].source


def brings(monkeypatch, **changes):
    monkeypatch.setattr(letter_templates, "released", lambda: released() | changes)


@pytest.mark.parametrize("version", [0, -1])
async def test_a_version_before_the_first_is_never_the_newest(engine, version):
    """Nor for a caller beside the command, which bounds it by itself."""
    await put(engine, **{SUBJECT: "another subject"})

    with pytest.raises(NotFound, match=f"there is no version {version}"):
        await in_database(engine, lambda tx: templates.rollback(tx, version, by="kim"))


async def test_the_files_of_the_release_are_version_1(engine, database):
    """Migrating puts them, and migrating again puts nothing."""
    async with engine.begin() as tx:
        assert await letter_templates.newest(tx) == 1
        assert {name: one.source for name, one in (await letter_templates.stored(tx, 1)).items()} == released()

    await migrate.upgrade(database)

    assert len(await in_database(engine, letter_templates.history)) == 1


async def test_an_edit_survives_an_upgrade_and_the_rest_is_replaced(engine, database, monkeypatch):
    """The release's new subject is not put over a person's; its new text of another file is."""
    await put(engine, **{SUBJECT: "Booked!"})
    brings(monkeypatch, **{SUBJECT: "The release's", "client_refund/subject.txt": "Money back"})
    await migrate.upgrade(database)
    await migrate.upgrade(database)

    stored = await in_database(engine, lambda tx: letter_templates.stored(tx, 3))
    assert await in_database(engine, letter_templates.newest) == 3
    assert stored[SUBJECT].source == "Booked!"
    assert stored["client_refund/subject.txt"].source == "Money back"


async def test_going_back_over_no_migration_brings_the_older_texts_back(engine, database, monkeypatch):
    """Nothing tells then which of two releases is the newer: letters say what the one says that migrated last."""
    with monkeypatch.context() as newer:
        brings(newer, **{SUBJECT: "The newer release's"})
        await migrate.upgrade(database)
    assert await subject(engine) == (2, "The newer release's")

    await migrate.upgrade(database)

    assert await subject(engine) == (3, released()[SUBJECT])


async def test_a_release_that_does_not_fit_to_an_edit_is_withheld(engine, database, monkeypatch, capsys):
    """Letters go on as they were, and the log says why."""
    await put(engine, **{"client_refund/body.html": released()["client_refund/body.html"] + "\n"})
    parts = released()["parts.html"].replace("macro detail(", "macro row(")
    bodies = {n: s.replace("parts.detail(", "parts.row(") for n, s in released().items() if n.endswith("body.html")}
    brings(monkeypatch, **bodies | {"parts.html": parts})
    await migrate.upgrade(database)

    assert await in_database(engine, letter_templates.newest) == 2
    said = capsys.readouterr().out
    assert "templates.release_withheld" in said
    assert "an example does not render" in said


async def test_files_of_a_newer_release_stand_in_nobodys_way(ops, engine, tmp_path):
    """Whoever went back from a release with one letter more can still change what the letters say, and look at it."""
    layout = released()["layout.html"].replace("</body>", '{% include "footer.html" %}</body>')
    newer = {"client_reminder/body.html": "{{ a_word_of_then }}", "footer.html": "<p>Newer</p>", "layout.html": layout}
    for one in newer.items():
        await query(engine, "insert into letter_templates (version, name, source, put_by) values (2, $1, $2, 'release')", *one)
    file = tmp_path / "subject.txt"
    file.write_text("Booked!")

    previewed = await ops("preview", "client_confirmation", "--file", SUBJECT, "--as", str(file))
    assert previewed.stdout.startswith("Subject: Booked!\n"), previewed.stderr
    assert "version 3" in (await ops("put", SUBJECT, str(file), "--by", "kim")).stdout
    assert "version 4" in (await ops("rollback", "1", "--by", "kim")).stdout
    assert await subject(engine) == (4, released()[SUBJECT])


async def test_what_would_not_render_is_not_put(engine):
    """And nothing of the same put is."""
    with pytest.raises(letter_templates.Refused, match="there is no variable nobody"):
        await put(engine, **{SUBJECT: "{{ nobody }}", "client_refund/subject.txt": "fine"})

    assert await in_database(engine, letter_templates.newest) == 1


async def test_two_at_once_make_two_versions(engine):
    """Nobody's change is lost, and no number is given twice."""
    numbers = await asyncio.gather(
        put(engine, **{SUBJECT: "A"}), put(engine, **{"client_refund/subject.txt": "B"}), put(engine, **{SUBJECT: "A"})
    )

    assert sorted(n for n in numbers if n) == [2, 3]
    stored = await in_database(engine, lambda tx: letter_templates.stored(tx, 3))
    assert (stored[SUBJECT].source, stored["client_refund/subject.txt"].source) == ("A", "B")


async def test_a_letter_is_written_by_the_newest_version_and_keeps_its_number(engine, tmp_path):
    """An edit counts from the next letter on, without a restart."""
    sales = [Sale(), Sale()]
    async with engine.begin() as tx:
        await insert_sales(tx, *sales, booking_status="confirmed")
    async with open_mailbox(tmp_path) as mailbox:
        email = Email(engine, mailbox)
        await email.changes.handle([booking(sales[0], CONFIRMED)])
        await put(engine, **{SUBJECT: "Booked: {{ coach_name }}"})
        await email.changes.handle([booking(sales[1], CONFIRMED)])
        await email.delivery.close()
        subjects = sorted(letter.subject for letter in mailbox.letters if letter.to[0].startswith("client"))

    assert subjects == ["Booked: Grace Hopper", "Booking Confirmed: Session with Grace Hopper"]
    async with engine.begin() as tx:
        versions = await rows(tx, "select template_version, count(*) from letters group by 1 order by 1")
    assert versions == [(1, 2), (2, 2)]


async def test_a_version_whose_number_is_given_again_after_a_loss_is_read_anew(engine, tmp_path):
    """A backup without the newest version comes back while the process runs, and another text becomes the next version."""
    sales = [Sale(), Sale()]
    async with engine.begin() as tx:
        await insert_sales(tx, *sales, booking_status="confirmed")
    async with open_mailbox(tmp_path) as mailbox:
        email = Email(engine, mailbox)
        await put(engine, **{SUBJECT: "Lost: {{ coach_name }}"})
        await email.changes.handle([booking(sales[0], CONFIRMED)])
        await in_database(engine, lambda tx: rows(tx, "delete from letter_templates where version = 2"))
        await put(engine, **{SUBJECT: "Kept: {{ coach_name }}"})
        await email.changes.handle([booking(sales[1], CONFIRMED)])
        await email.delivery.close()
        subjects = sorted(letter.subject for letter in mailbox.letters if letter.to[0].startswith("client"))

    assert subjects == ["Kept: Grace Hopper", "Lost: Grace Hopper"]


async def test_what_was_taken_can_be_put_again(ops, engine, tmp_path):
    """Joiners, soft hyphens and marks of direction are no letters to a terminal, and part of the text."""
    text = "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} Ver\N{SOFT HYPHEN}abredung \N{RIGHT-TO-LEFT MARK}{{ amount }}\n"
    await put(engine, **{"client_confirmation/body.txt": text})
    file = tmp_path / "body.txt"
    file.write_text((await ops("show", "client_confirmation/body.txt")).stdout)

    assert file.read_text() == text
    assert "nothing to do" in (await ops("put", "client_confirmation/body.txt", str(file), "--by", "kim")).stdout


@pytest.mark.parametrize(
    "arguments",
    [("put", SUBJECT, "FILE", "--by", "kim"), ("preview", "client_confirmation", "--file", SUBJECT, "--as", "FILE")],
)
async def test_a_file_in_another_encoding_is_one_line(ops, tmp_path, arguments):
    """An editor that saves in Latin-1 is told so."""
    file = tmp_path / "latin1.txt"
    file.write_bytes("Grüße".encode("latin-1"))
    result = await ops(*(str(file) if one == "FILE" else one for one in arguments))

    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


async def test_an_operator_lists_shows_previews_puts_and_rolls_back(ops, engine, tmp_path):
    """The whole round, and every version says who put it."""
    listed = (await ops("list")).stdout
    assert all(name in listed for name in FILES)
    shown = await ops("show", SUBJECT)
    assert shown.stdout == released()[SUBJECT]

    file, html = tmp_path / "subject.txt", tmp_path / "letter.html"
    file.write_text("Booked: {{ coach_name or 'your coach' }}\n")
    preview = await ops("preview", "client_confirmation", "--file", SUBJECT, "--as", str(file), "--html", str(html))
    assert preview.stdout.startswith("Subject: Booked: Charles Babbage\n\nHello Ada,")
    assert "<title>Booked: Charles Babbage</title>" in html.read_text()
    assert (await subject(engine))[0] == 1

    assert "version 2" in (await ops("put", SUBJECT, str(file), "--by", "kim")).stdout
    assert "nothing to do" in (await ops("put", SUBJECT, str(file), "--by", "kim")).stdout
    assert (await subject(engine)) == (2, file.read_text())
    assert "version 3" in (await ops("rollback", "1", "--by", "lee")).stdout
    assert (await subject(engine)) == (3, released()[SUBJECT])
    assert (await ops("show", SUBJECT, "--version", "2")).stdout == file.read_text()
    history = await in_database(engine, letter_templates.history)
    assert [(v.version, v.put_by, v.names) for v in history[1:]] == [(2, "kim", (SUBJECT,)), (3, "lee", (SUBJECT,))]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("show", "nothing.txt"), 1, "no file is called nothing.txt"),
        (("show", SUBJECT, "--version", "9"), 1, "there is no version 9"),
        (("preview", "nobody_letter"), 1, "no letter is called nobody_letter"),
        (("rollback", "9", "--by", "kim"), 1, "there is no version 9"),
        (("rollback", "0", "--by", "kim"), 2, "should be greater than or equal to 1"),
        (("show", SUBJECT, "--version", "0"), 2, "should be greater than or equal to 1"),
        (("put", SUBJECT, "BAD", "--by", "kim"), 1, "there is no variable nobody"),
        (("put", "client_refund/footer.html", "BAD", "--by", "kim"), 1, "no file is called client_refund/footer.html"),
        (("preview", "client_refund", "--file", SUBJECT, "--as", "BAD"), 1, "there is no variable nobody"),
        (("put", SUBJECT, "BAD", "--by", " "), 2, "who decided it?"),
        (("put", SUBJECT, "BAD", "--by", "release"), 2, "release marks what a release brings"),
    ],
)
async def test_what_cannot_be_done_is_one_line_and_changes_nothing(ops, engine, tmp_path, arguments, status, why):
    """An unknown name, version or letter, a text that would not render, nobody's name."""
    (tmp_path / "bad").write_text("{{ nobody }}")
    result = await ops(*(str(tmp_path / "bad") if argument == "BAD" else argument for argument in arguments))

    assert result.exit_code == status
    assert why in " ".join(result.stderr.replace("│", " ").split())
    assert await in_database(engine, letter_templates.newest) == 1
