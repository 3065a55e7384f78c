"""An example of every letter, from the templates in force in the box, else from the release's.

Enters: the box's folder. Leaves: each letter's content. Next: web.py shows them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.letters.templates import Content, Templates, released
from shared.letters.words import LETTERS, example


@dataclass(frozen=True, slots=True)
class Wording:
    """Every letter's example, and the version that it is written by; 0 is the release's files, without a database."""

    version: int
    letters: Mapping[str, Content]


class Unknown(Exception):
    """The templates are not available now: the box is starting, or its database is away."""


Ask = Callable[[], Awaitable[Wording]]


async def of_release() -> Wording:
    """Return what the files of the release say."""
    return _examples(0, released())


def of_box(folder: Path) -> Ask:
    """Return a function that asks the database of the box in this folder at each call; Unknown when it does not answer."""

    async def ask() -> Wording:
        # These take half a second to import, which a box's start need not wait for.
        from pydantic import SecretStr  # noqa: PLC0415 - see above

        from deploy.dev.box import control  # noqa: PLC0415 - see above
        from deploy.dev.errors import BoxError  # noqa: PLC0415 - see above
        from deploy.dev.seed import store  # noqa: PLC0415 - see above
        from deploy.dev.state import Box  # noqa: PLC0415 - see above
        from shared import settings  # noqa: PLC0415 - see above
        from shared.db import engine as engines  # noqa: PLC0415 - see above
        from shared.db import letter_templates  # noqa: PLC0415 - see above

        try:
            url = control.environment_of(Box(folder))["DATABASE_URL"]
        except BoxError as error:
            raise Unknown(str(error)) from error
        engine = engines.create(settings.Database(database_url=SecretStr(url)), application="mailbox", pool_size=1)
        try:
            async with engine.begin() as tx:
                version = await letter_templates.newest(tx)
                stored = await letter_templates.stored(tx, version)
        except store.TROUBLE as error:
            raise Unknown(f"the box's database does not answer: {type(error).__name__}") from error
        finally:
            await engine.dispose()
        return _examples(version, {name: one.source for name, one in stored.items()})

    return ask


def _examples(version: int, sources: Mapping[str, str]) -> Wording:
    templates = Templates(sources)
    return Wording(version, {letter: templates.render(letter, example(letter)) for letter in LETTERS})
