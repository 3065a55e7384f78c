"""The templates of letters: list, show, preview, change, roll back.

Enters: a connection. Leaves: plain values. A template that cannot render its examples is refused here, so that no letter fails
later. Next: shared/letters/examination.py checks, shared/db/letter_templates.py stores.
"""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops.errors import InvalidTemplates, NotFound
from shared.db import letter_templates
from shared.db.letter_templates import Stored, Version
from shared.letters import examination
from shared.letters.templates import FILES, Content, Templates
from shared.letters.words import LETTERS, example


async def listed(tx: AsyncConnection) -> tuple[list[Stored], list[Version]]:
    """Return the files of the newest version in their order, and every version, oldest first."""
    files = await _files(tx, None)
    return [files[name] for name in FILES if name in files], await letter_templates.history(tx)


async def source(tx: AsyncConnection, name: str, version: int | None) -> str:
    """Return one file's text; raises NotFound."""
    files = await _files(tx, version)
    return files[_known(name)].source


async def put(tx: AsyncConnection, name: str, text: str, *, by: str) -> int | None:
    """Put one file's text and return the version that it made, None when nothing differs; raises NotFound, InvalidTemplates."""
    return await _put(tx, {_known(name): text}, by=by)


async def rollback(tx: AsyncConnection, version: int, *, by: str) -> int | None:
    """Put every file as it was in `version`; returns and raises as `put` does."""
    return await _put(tx, {name: one.source for name, one in (await _files(tx, version)).items()}, by=by)


async def preview(tx: AsyncConnection, letter: str, version: int | None, changed: Mapping[str, str]) -> Content:
    """Return the example of a letter, with some files changed; raises NotFound, InvalidTemplates."""
    if letter not in LETTERS:
        raise NotFound(f"no letter is called {letter}; there are {', '.join(LETTERS)}")
    files = await _files(tx, version)
    sources = {name: one.source for name, one in files.items()} | {_known(name): text for name, text in changed.items()}
    if faults := examination.faults(sources):
        raise InvalidTemplates("; ".join(faults))
    return Templates(sources).render(letter, example(letter))


async def _files(tx: AsyncConnection, version: int | None) -> dict[str, Stored]:
    newest = await letter_templates.newest(tx)
    if newest == 0:
        raise NotFound("there are no templates yet: run `cb-ops migrate`")
    if version is None:
        return await letter_templates.stored(tx, newest)
    if not 1 <= version <= newest:
        raise NotFound(f"there is no version {version}; the newest is {newest}")
    return await letter_templates.stored(tx, version)


async def _put(tx: AsyncConnection, sources: Mapping[str, str], *, by: str) -> int | None:
    try:
        return await letter_templates.put(tx, sources, by=by)
    except letter_templates.Refused as refused:
        raise InvalidTemplates(str(refused)) from None


def _known(name: str) -> str:
    if name not in FILES:
        raise NotFound(f"no file is called {name}; there are {', '.join(FILES)}")
    return name
