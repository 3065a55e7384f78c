"""A booking changed -> its letters are entered, and each that is due is handed to the mail server once.

Enters: records of `bookings.events`, and tickets of the 1 s step. Leaves: rows of `letters`; letters accepted, dead letters
that Kafka acknowledged, or tickets for another second. Only then may the offsets be committed. Next: compose.py, delivery.py.
"""

import asyncio
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.email import ledger, store, tickets
from consumers.email.ledger import NewLetter
from consumers.email.sending import Sender, Stopping
from consumers.email.tickets import Due
from shared import clock, messages
from shared.kafka import dead_letters
from shared.kafka.batch import Applied, Batches
from shared.kafka.dead_letters import Refused
from shared.kafka.producer import Producer
from shared.kafka.records import Incoming

CURRENCY = re.compile(r"[A-Za-z]{3}")
MS_PER_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """What a booking's event means for letters: those that it makes due, or those that it takes back, or neither."""

    record: Incoming
    confirmed: tuple[NewLetter, ...] = ()
    cancelled: tuple[NewLetter, ...] = ()


@dataclass(slots=True)
class Entering:
    """What the email consumer brings to the one story of batches: it enters letters, and remembers which are due."""

    sender_domain: str
    due: dict[uuid.UUID, Due] = field(default_factory=dict)

    def judge(self, record: Incoming) -> Change | Refused:
        """Return what one event means for letters, or why it cannot be taken."""
        try:
            event = messages.booking_changes.decode(record.value)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return Refused(record, tickets.UNDECODABLE)
        if not CURRENCY.fullmatch(event.data.currency):
            return Refused(record, "bad_currency")
        both = ledger.confirmations(event.data, sender_domain=self.sender_domain)
        match event.name:
            case "booking.confirmed":
                return Change(record, confirmed=both)
            case "booking.cancelled":
                return Change(record, cancelled=both)
            case _:
                return Change(record)

    def record_of(self, item: Change) -> Incoming:
        """Return the record that brought a change."""
        return item.record

    async def apply(self, tx: AsyncConnection, items: Sequence[Change]) -> Applied:
        """Enter what is due, then suppress what is cancelled: in either order of events a cancelled booking gets nothing."""
        await store.enter(tx, [letter for item in items for letter in item.confirmed])
        await store.suppress_due(
            tx, [letter for item in items for letter in item.cancelled], ledger.Suppression.CANCELLED_FIRST
        )
        due = [Due(letter.ticket, attempt=0, replayed=False, record=item.record) for item in items for letter in item.confirmed]
        return Applied(after_commit=[lambda: self.due.update((one.ticket.letter_id, one) for one in due)])


class Changes:
    """Handles `bookings.events`."""

    def __init__(self, batches: Batches[Change], entering: Entering, sender: Sender) -> None:
        self._batches = batches
        self._entering = entering
        self._sender = sender

    async def handle(self, records: Sequence[Incoming]) -> None:
        """Enter the letters of a batch and send those that are due; raises whatever the world does."""
        self._entering.due.clear()
        await self._batches.handle(records)
        await self._sender.send_all(list(self._entering.due.values()))


class Retries:
    """Handles the 1 s step: tickets of letters that somebody else was sending a second ago."""

    def __init__(self, sender: Sender, producer: Producer, *, group: str, refusals: str, stopping: asyncio.Event) -> None:
        self._sender = sender
        self._producer = producer
        self._group = group
        self._refusals = refusals
        self._stopping = stopping

    async def wait_until_due(self, records: Sequence[Incoming]) -> None:
        """Wait for the last ticket of a batch, at most the step's second; raises Stopping when the process ends."""
        wait_ms = max(tickets.due_ms(record) for record in records) - clock.now().timestamp() * MS_PER_SECOND
        seconds = min(max(wait_ms, 0), tickets.STEP_DELAY_MS) / MS_PER_SECOND
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise Stopping("the tickets stay in the step")

    async def handle(self, records: Sequence[Incoming]) -> None:
        """Try each letter again; a ticket that cannot be read goes to the dead letters."""
        read = [tickets.read(record) for record in records]
        refused = [one for one in read if isinstance(one, Refused)]
        await self._producer.publish([dead_letters.letter(one, topic=self._refusals, group=self._group) for one in refused])
        await self._sender.send_all([one for one in read if isinstance(one, Due)])
