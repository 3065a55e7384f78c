"""A booking or a payment changed -> its letters are entered, and each that is due is handed to the mail server once.

Enters: records of `bookings.events` and `payments.events`, and tickets of the ladder's steps. Leaves: rows of `letters`;
letters accepted, dead letters that Kafka acknowledged, or tickets for a step. Only then may the offsets be committed.
Next in the walk: sending.py.
"""

import uuid
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.email import store, tickets
from consumers.email.kinds import Consequences, Unusable
from consumers.email.sending import Sender
from consumers.email.tickets import DueLetter
from shared import messages
from shared.kafka import dead_letters
from shared.kafka.batch import TRANSACTION_ITEMS_MAX, Applied, Batches
from shared.kafka.dead_letters import Refused
from shared.kafka.producer import Producer
from shared.kafka.records import Incoming


class Reading(Protocol):
    """One topic's events, as letters."""

    def __call__(self, value: bytes, *, sender_domain: str) -> Consequences | Unusable:
        """Return what an event means; raises one of messages.DECODING_ERRORS."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event's record, and what it means for letters."""

    record: Incoming
    consequences: Consequences


@dataclass(slots=True)
class LetterIntake:
    """The email consumer's part of what shared/kafka/batch.py does with a batch: enter letters, and remember which are due."""

    read: Reading
    sender_domain: str
    due: dict[uuid.UUID, DueLetter] = field(default_factory=dict)

    def judge(self, record: Incoming) -> Change | Refused:
        """Return what one event means for letters, or why it cannot be taken."""
        try:
            consequences = self.read(record.value, sender_domain=self.sender_domain)
        except messages.DECODING_ERRORS:
            return Refused(record, tickets.UNDECODABLE)
        return Refused(record, consequences.reason) if isinstance(consequences, Unusable) else Change(record, consequences)

    def keys(self, item: Change) -> Sequence[Hashable]:
        """Return the bookings of its letters."""
        return [letter.booking_id for letter in (*item.consequences.due, *(of for of, _ in item.consequences.withheld))]

    async def items_at_once_max(self, engine: AsyncEngine) -> int:  # noqa: ARG002 - locks of rows need no room in PostgreSQL's table
        """Return one transaction's: this consumer waits for the mail server, not for PostgreSQL."""
        return TRANSACTION_ITEMS_MAX

    async def apply(self, tx: AsyncConnection, items: Sequence[Change]) -> Applied:
        """Enter the letters that are due, then withhold those that no longer are.

        In this order a batch that confirms a booking and cancels it confirms it to nobody, whichever event comes first.
        """
        wanted = [(letter, item.record) for item in items for letter in item.consequences.due]
        open_ = await store.enter(tx, [letter for letter, _ in wanted])
        await store.withhold(tx, [one for item in items for one in item.consequences.withheld])
        due = [
            DueLetter(letter.ticket, attempt=0, replayed=False, record=record)
            for letter, record in wanted
            if letter.id in open_
        ]
        return Applied(after_commit=[lambda: self.due.update((one.ticket.letter_id, one) for one in due)])

    async def record_culprit(self, tx: AsyncConnection, item: Change, reason: str) -> None:
        """Write nothing: `cb-ops why` points to its dead letter for a confirmation without letters."""


class Changes:
    """Handles `bookings.events`, or `payments.events`."""

    def __init__(self, batches: Batches[Change], intake: LetterIntake, sender: Sender) -> None:
        self._batches = batches
        self._intake = intake
        self._sender = sender

    async def handle(self, records: Sequence[Incoming]) -> None:
        """Enter the letters of a batch and send those that are due; raises errors of PostgreSQL, Kafka and the mail server."""
        self._intake.due.clear()
        await self._batches.handle(records)
        await self._sender.send_all(list(self._intake.due.values()))


class Retries:
    """Handles one step of the ladder: tickets that are due."""

    def __init__(self, sender: Sender, producer: Producer, *, group: str, refusals: str) -> None:
        self._sender = sender
        self._producer = producer
        self._group = group
        self._refusals = refusals

    async def handle(self, records: Sequence[Incoming]) -> None:
        """Try each letter again; a ticket that cannot be read goes to the dead letters."""
        read = [tickets.read(record) for record in records]
        refused = [one for one in read if isinstance(one, Refused)]
        await self._producer.publish([dead_letters.letter(one, topic=self._refusals, group=self._group) for one in refused])
        await self._sender.send_all([one for one in read if isinstance(one, DueLetter)])
