"""Records the letters that the mail server accepted: at once, else as soon as the database takes it.

Enters: a claimed letter and the server's 250. Leaves: its row as sent. What the database does not take stays in memory: a
background task tries again, and so does every batch before it sends anything, since a letter whose 250 is lost is sent a second
time. Next: ledger_writer.py.
"""

import asyncio
import uuid
from contextlib import suppress

from consumers.email.background import Background
from consumers.email.ledger_writer import Claimed, LedgerWriter
from consumers.email.outcomes import Accepted
from consumers.email.reporting import count_letter, log_letter
from shared import metrics
from shared.db.engine import TROUBLE
from shared.kafka.backoff import Backoff


class AcceptedLetters:
    """Records 250s, and keeps those that are not recorded yet."""

    def __init__(self, ledger: LedgerWriter, background: Background, stopping: asyncio.Event) -> None:
        self._ledger = ledger
        self._background = background
        self._stopping = stopping
        self._unrecorded: dict[uuid.UUID, tuple[Claimed, Accepted]] = {}
        self._catching_up = asyncio.Lock()
        self._recording: asyncio.Task[None] | None = None

    async def record(self, claimed: Claimed, accepted: Accepted) -> None:
        """Record a 250; raises what PostgreSQL raises, and then keeps it in memory and has it recorded in the background."""
        try:
            recorded = await self._ledger.sent(claimed, accepted.answer)
        except BaseException:  # also on cancellation: another batch may still be sent
            self._unrecorded[claimed.letter_id] = (claimed, accepted)
            if self._recording is None or self._recording.done():
                self._recording = asyncio.create_task(self._record_in_time())
                self._background.add(self._recording)
            raise
        count_letter(claimed.due, "sent")
        if recorded is None:
            log_letter(claimed.due, "letter.sent", outcome="row_lost")
            return
        metrics.letter_seconds.observe(recorded.seconds)
        log_letter(claimed.due, "letter.sent", outcome="claim_held" if recorded.claim_held else "claim_lost")

    async def catch_up(self) -> None:
        """Record what is still in memory; raises what PostgreSQL raises. Other callers wait meanwhile."""
        async with self._catching_up:
            while self._unrecorded:
                await self.record(*self._unrecorded.popitem()[1])

    async def _record_in_time(self) -> None:
        """Record what no later batch may: another member that has the letter by now would send it again after its lease."""
        backoff = Backoff()
        while self._unrecorded:
            await backoff.pause(self._stopping)
            with suppress(*TROUBLE):
                await self.catch_up()
            if self._stopping.is_set():
                return
