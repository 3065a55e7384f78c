"""Writes the ledger of letters: a sender calls it for one letter, and concurrent calls share one transaction.

Enters: tickets to be judged, and the outcomes of sending. Leaves: claims, and whether each claim still held. The three writes
that every letter needs (claimed, handed over, sent) share their transactions with those of other letters; refusals and releases
are rare and have their own. A letter that was claimed may have no row any more: a standby took over without the last commits,
or a backup was restored, while this process went on. Next: store.py.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.email import ledger, store
from consumers.email.compose import Facts
from consumers.email.group_commit import GroupCommit
from consumers.email.ledger import Awaited, Claim, Judgement, Leased, NothingToDo, State, Suppress, Undecided
from consumers.email.store import ClaimWrite, Recorded, Sent
from consumers.email.template_cache import TemplateCache
from consumers.email.tickets import DueLetter
from shared.db import attention
from shared.letters.templates import Templates

UNKNOWN = "unknown_letter"
ENDED = frozenset({State.SENT, State.SUPPRESSED, State.DEAD})


@dataclass(frozen=True, slots=True)
class Claimed:
    """A letter whose lease we hold, with its facts and templates: both are None when its booking is gone."""

    due: DueLetter
    token: uuid.UUID
    attempts: int
    maybe_sent: bool
    facts: Facts | None
    templates: Templates | None

    @property
    def letter_id(self) -> uuid.UUID:
        """The letter's id."""
        return self.due.ticket.letter_id


Found = Claimed | Suppress | Leased | Undecided | NothingToDo


class LedgerWriter:
    """Writes the ledger of letters for every sender of the process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._alone = engine.execution_options(isolation_level="AUTOCOMMIT")  # a statement alone needs no BEGIN and COMMIT
        self._templates = TemplateCache()
        self._claims: GroupCommit[DueLetter, Found] = GroupCommit(self._claim)
        self._handed_over: GroupCommit[Claimed, bool] = GroupCommit(self._hand_over)
        self._sent: GroupCommit[Sent, Recorded | None] = GroupCommit(self._record_sent)

    async def claim(self, due: DueLetter) -> Found:
        """Take the lease of a letter, and load its facts and templates; or return why there is nothing to send."""
        return await self._claims.ask(due)

    async def hand_over(self, claimed: Claimed) -> bool:
        """Record that DATA begins, and return whether the claim still holds: without it the letter must not be sent."""
        return await self._handed_over.ask(claimed)

    async def sent(self, claimed: Claimed, answer: str) -> Recorded | None:
        """Record a 250, even when another sender holds the claim by now; None when the ledger has lost the letter's row."""
        return await self._sent.ask(Sent(claimed.letter_id, claimed.token, answer))

    async def retrying(self, claimed: Claimed, *, reason: str, answer: str) -> None:
        """Count a failed attempt whose ticket is in Kafka; nothing is counted when another sender holds the claim by now."""
        async with self._engine.begin() as tx:
            await store.record_retrying(tx, claimed.letter_id, claimed.token, reason=reason, answer=answer)

    async def dead(self, claimed: Claimed, *, reason: str, answer: str | None) -> bool:
        """Give a letter up, and notify an operator when no mail server judged it; False when another sender holds it by now.

        A letter whose row the ledger has lost is over, too: its dead letter in Kafka is all that is left of it.
        """
        judged = answer is not None
        ticket = claimed.due.ticket
        async with self._engine.begin() as tx:
            held = await store.record_dead(tx, claimed.letter_id, claimed.token, judged=judged, reason=reason, answer=answer)
            if held and not judged:
                matter = f"letter_{reason.partition(':')[0]}"
                await attention.open_(tx, reason=matter, aggregate=f"booking:{ticket.booking_id}", cause=str(claimed.letter_id))
            return held or _has_ended(await store.load(tx, [claimed.letter_id]), claimed)

    async def undecided_for_long(self, due: DueLetter, awaited: Awaited) -> None:
        """Open a matter, once: the letter still waits for a decision that takes milliseconds where all is well."""
        aggregate, cause = f"booking:{due.ticket.booking_id}", str(due.ticket.letter_id)
        async with self._engine.begin() as tx:
            await attention.open_(tx, reason=f"letter_undecided:{awaited}", aggregate=aggregate, cause=cause)

    async def release(self, claimed: Claimed) -> None:
        """Give the claim back without counting an attempt."""
        async with self._engine.begin() as tx:
            await store.release(tx, claimed.letter_id, claimed.token)

    async def _claim(self, wishes: Sequence[DueLetter]) -> list[Found]:
        async with self._engine.begin() as tx:
            locked = await store.load(tx, sorted({due.ticket.letter_id for due in wishes}))
            judged: list[tuple[DueLetter, Judgement]] = []
            taken: dict[uuid.UUID, ClaimWrite] = {}
            for due in wishes:
                letter_id = due.ticket.letter_id
                row = locked.get(letter_id)
                judgement: Judgement = NothingToDo(UNKNOWN)
                if letter_id in taken:
                    judgement = Leased()
                elif row is not None:
                    judgement = ledger.judge(row, attempt=due.attempt, replayed=due.replayed)
                if isinstance(judgement, Claim):
                    taken[letter_id] = ClaimWrite(letter_id, uuid.uuid4(), judgement.attempts, judgement.maybe_sent)
                judged.append((due, judgement))
            made_of: dict[uuid.UUID, tuple[Facts, Templates]] = {}
            if taken:
                await store.claim(tx, list(taken.values()))
                for letter_id, (facts, version) in (await store.facts(tx, list(taken))).items():
                    made_of[letter_id] = facts, await self._templates.of(tx, version)
            suppressed = [(due.ticket.letter_id, j.reason) for due, j in judged if isinstance(j, Suppress)]
            if suppressed:
                await store.suppress(tx, suppressed)
        return [_found(due, judgement, taken, made_of) for due, judgement in judged]

    async def _hand_over(self, claims: Sequence[Claimed]) -> list[bool]:
        async with self._alone.connect() as tx:
            held = await store.hand_over(tx, [(claimed.letter_id, claimed.token) for claimed in claims])
        return [claimed.token in held for claimed in claims]

    async def _record_sent(self, sent: Sequence[Sent]) -> list[Recorded | None]:
        async with self._alone.connect() as tx:
            recorded = await store.record_sent(tx, sent)
        return [recorded.get(one.letter_id) for one in sent]


def _found(
    due: DueLetter, judgement: Judgement, taken: dict[uuid.UUID, ClaimWrite], made_of: dict[uuid.UUID, tuple[Facts, Templates]]
) -> Found:
    if not isinstance(judgement, Claim):
        return judgement
    letter_id = due.ticket.letter_id
    facts, templates = made_of.get(letter_id, (None, None))
    ours = due.claimed(judgement.attempts)
    return Claimed(ours, taken[letter_id].token, judgement.attempts, judgement.maybe_sent, facts, templates)


def _has_ended(locked: dict[uuid.UUID, ledger.LetterRow], claimed: Claimed) -> bool:
    row = locked.get(claimed.letter_id)
    return row is None or row.state in ENDED
