"""The compiled templates of the versions in use, so that an edit in the database counts from the next letter on.

Enters: the version that a letter was claimed with. Leaves: its templates, read and compiled once. Next: compose.py.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.email.store import TemplateVersion
from shared.db import letter_templates
from shared.letters.templates import Templates

VERSIONS_MAX = 4  # the newest, and those that a batch in flight was claimed with


class TemplateCache:
    """Compiled templates by version; one for a database, since versions are numbered there."""

    def __init__(self) -> None:
        self._compiled: dict[TemplateVersion, Templates] = {}

    async def of(self, tx: AsyncConnection, version: TemplateVersion) -> Templates:
        """Return the templates of this version."""
        known = self._compiled.get(version)
        if known is None:
            stored = await letter_templates.stored(tx, version.number)
            known = self._compiled[version] = Templates({name: one.source for name, one in stored.items()})
            while len(self._compiled) > VERSIONS_MAX:
                del self._compiled[next(iter(self._compiled))]
        return known
