"""`cb-ops templates`: what the letters say, by whom it was changed, and changing it."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops import show, templates
from deploy.ops.commands.runner import Json, group, in_database, person, run
from shared import environment, settings
from shared.db import letter_templates
from shared.letters.words import LETTERS

app = group("templates", "What the letters say: every version of it, and changing it.")

Answer = TypeVar("Answer")
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decided it; every version keeps it.")]
Version = Annotated[int | None, typer.Option(min=1, help="An earlier version; default: the one that letters are written by.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The file with its new text.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `templates list` shows it: client_confirmation/body.html.")]


@app.command("list")
def templates_list(*, as_json: Json = False) -> None:
    """List the files that letters are written by now, and every version there was."""
    files, versions = _ask(templates.listed)
    if as_json:
        show.json({"files": files, "versions": versions})
        return
    show.table(("file", "since version", "put by", "age"), [(f.name, f.version, f.put_by, show.age(f.put_at)) for f in files])
    show.say("")
    show.table(
        ("version", "put by", "age", "files"), [(v.version, v.put_by, show.age(v.put_at), ", ".join(v.names)) for v in versions]
    )


@app.command("show")
def templates_show(name: Name, *, version: Version = None) -> None:
    """Print the text of one file, as `templates put` takes it."""
    source = _ask(lambda tx: templates.source(tx, name, version))
    _require_whole(source)
    show.file(source.removesuffix("\n"))


@app.command("put")
def templates_put(name: Name, file: File, *, by: By) -> None:
    """Put a new text of one file as the next version; refused when any letter would not render its examples with it."""
    put_by, text = _editor(by), _text_of(file)
    number = _ask(lambda tx: templates.put(tx, name, text, by=put_by))
    show.say(f"version {number}: letters are written by it from now on" if number else "nothing to do: it says that already")


@app.command("preview")
def templates_preview(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help=f"One of {', '.join(LETTERS)}.")],
    *,
    version: Version = None,
    name: Annotated[str | None, typer.Option("--file", metavar="NAME", help="Look at it with this file …")] = None,
    candidate: Annotated[Path | None, typer.Option("--as", exists=True, dir_okay=False, help="… as it is here.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the HTML there, for a browser.")] = None,
) -> None:
    """Show the example of a letter: subject and text, and with --html its HTML; nothing is put and nothing is sent."""
    if (name is None) != (candidate is None):
        raise typer.BadParameter("--file and --as belong together")
    changed = {name: _text_of(candidate)} if name and candidate else {}
    content = _ask(lambda tx: templates.preview(tx, letter, version, changed))
    show.text(f"Subject: {content.subject}\n\n{content.text.rstrip()}")
    if html is not None:
        try:
            html.write_text(content.html, encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(f"{html} cannot be written: {error.strerror}", param_hint="--html") from None
        show.say(f"its HTML is in {html}")


@app.command("rollback")
def templates_rollback(version: Annotated[int, typer.Argument(min=1, help="As `templates list` shows it.")], *, by: By) -> None:
    """Put the texts of an earlier version again, as the next version; nothing is forgotten."""
    put_by = _editor(by)
    number = _ask(lambda tx: templates.rollback(tx, version, by=put_by))
    show.say(f"version {number} says what version {version} said" if number else f"nothing differs from version {version}")


def _ask(work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
    return run(in_database(environment.read(settings.Database), work))


def _require_whole(text: str) -> None:
    """Raise BadParameter where the output would lose letters of it: what was taken is put again."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{sys.stdout.encoding} lacks letters of it: set PYTHONIOENCODING=utf-8") from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8") from None


def _editor(by: str) -> str:
    """Return who is named; what a release is called by would be replaced by the next one."""
    name = person(by)
    if name == letter_templates.RELEASE:
        raise typer.BadParameter(f"{name} marks what a release brings; who decided it?", param_hint="--by")
    return name
