"""The letters' templates in the database, and every version of them; rows are added and never changed.

A version is one number for all files: each file has the row with the greatest version up to it. So a letter's row in the ledger
needs one number, and an earlier version can be put again. Enters: a connection, sources by name. Leaves: versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from shared import logs
from shared.db.engine import rows
from shared.letters import examination
from shared.letters.templates import released

log = logs.get(__name__)

RELEASE = "release"  # the `put_by` of files that nobody edited: the next release may replace them

# An advisory lock: one of the table would need more than the rights to read and to add rows.
LOCK = "select pg_advisory_xact_lock($1)"
LOCK_KEY = 0x0CB_07E3
NEWEST = "select coalesce(max(version), 0) from letter_templates"
SOURCES = """
select distinct on (name) name, source, version, put_by, put_at from letter_templates
where version <= $1 order by name, version desc
"""
PUT = "insert into letter_templates (version, name, source, put_by) select $1, u.*, $4 from unnest($2::text[], $3::text[]) u"
HISTORY = """
select version, put_by, min(put_at), array_agg(name order by name) from letter_templates
group by version, put_by order by version
"""


class Refused(ValueError):
    """Templates that would fail when a letter is written; `faults` says why, one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Stored:
    """One file as a version has it: its text, the version that brought it, and who put it when."""

    name: str
    source: str
    version: int
    put_by: str
    put_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """What one version brought: the files that it changed."""

    version: int
    put_by: str
    put_at: datetime
    names: tuple[str, ...]


async def newest(tx: AsyncConnection) -> int:
    """Return the version by which letters are written now; 0 before the first."""
    return int((await rows(tx, NEWEST))[0][0])


async def stored(tx: AsyncConnection, version: int) -> dict[str, Stored]:
    """Return all files of a version, by name; empty when there is no such version yet."""
    return {row[0]: Stored(*row) for row in await rows(tx, SOURCES, version)}


async def history(tx: AsyncConnection) -> list[Version]:
    """Return every version, oldest first."""
    return [Version(number, by, at, tuple(names)) for number, by, at, names in await rows(tx, HISTORY)]


async def put(tx: AsyncConnection, sources: Mapping[str, str], *, by: str) -> int | None:
    """Put these files as the next version and return it; None when nothing differs. Raises Refused, and then nothing is put."""
    await rows(tx, LOCK, LOCK_KEY)
    version = await newest(tx)
    before = await stored(tx, version)
    changed = {name: source for name, source in sources.items() if name not in before or before[name].source != source}
    if not changed:
        return None
    if faults := examination.faults({name: one.source for name, one in before.items()} | changed):
        raise Refused(faults)
    await rows(tx, PUT, version + 1, list(changed), list(changed.values()), by)
    log.info("templates.put", version=version + 1, templates=sorted(changed))
    return version + 1


async def seed(tx: AsyncConnection) -> int | None:
    """Put the files of this release, and leave what people edited; return the new version, None when nothing differs.

    When the release's files do not fit an edited one, only missing files are put: letters stay as they were, and the log says
    why.
    """
    before = await stored(tx, await newest(tx))
    ours = {name: source for name, source in released().items() if name not in before or before[name].put_by == RELEASE}
    try:
        return await put(tx, ours, by=RELEASE)
    except Refused as refused:
        log.error("templates.release_withheld", faults=refused.faults)  # noqa: TRY400 - its faults say all
        return await put(tx, {name: source for name, source in ours.items() if name not in before}, by=RELEASE)
