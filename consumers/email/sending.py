"""Sends each letter once: claim it, write it, hand it over, record the outcome.

Safety lies in the order. A claim is a lease with a token. Between RCPT and DATA the sender checks in the ledger that the claim
still holds, records that DATA begins, and renews the lease. The mail server's 250 is always recorded, even when another sender
holds the lease by then. A refused letter has its next record in Kafka before the ledger says so. A process that dies in between
leaves a lease that expires; the letter is then sent again under the same Message-ID, and counted as a possible duplicate if
DATA had begun (RFC 1047 says why this window cannot be closed).

Enters: the letters of one batch that are due. Leaves: each with its end recorded, or with a next record in Kafka. This file
decides when a letter's turn comes, and has it written and handed over. Next: accepted.py for the letters that the mail server
takes, unaccepted.py for all others. Next in the walk: compose.py, which writes a letter.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from consumers.email.accepted import AcceptedLetters
from consumers.email.background import Background
from consumers.email.breaker import Breaker
from consumers.email.compose import Letter, Unwritten, compose
from consumers.email.delivery import Delivery
from consumers.email.ledger import Leased, NothingToDo, Suppress, Undecided
from consumers.email.ledger_writer import UNKNOWN, Claimed, LedgerWriter
from consumers.email.outcomes import Accepted, LetterRefused, NotHandedOver, Outcome, ServerTrouble
from consumers.email.reporting import count_letter, log_letter
from consumers.email.tickets import DueLetter
from consumers.email.unaccepted import UnacceptedLetters
from shared import clock, errors, metrics
from shared.kafka.batch import Culprits

LETTERS_AT_ONCE_MAX = 10  # connections to the mail server: as many as providers commonly allow from one address
LETTERS_IN_HAND_MAX = 40  # being claimed, written or recorded while others are with the mail server
PATIENCE_SECONDS = 0.5  # a conversation that takes longer holds up no other letter: its lease protects it
LOOK_EVERY_SECONDS = 0.1
BEGIN_SECONDS_MAX = 30.0  # plus the longest conversation, below the two minutes after which a batch counts as stuck
MACHINE_ERRORS = (OSError, MemoryError)  # out of files, or of memory: no letter is to blame


class MailServerSlow(errors.Transient):
    """Not all letters of a batch could be begun in time; those that were are recognised when the batch comes again."""


@dataclass(slots=True)
class SendTask:
    """One letter being sent; `begun_at` is when its conversation with the mail server began, `begin_by` when it must have."""

    due: DueLetter
    begin_by: float
    begun_at: float | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)

    def is_slow(self) -> bool:
        """Whether the conversation takes longer than other letters should wait."""
        return self.begun_at is not None and clock.monotonic() - self.begun_at > PATIENCE_SECONDS


class Sender:
    """Sends letters concurrently, a bounded number at once; all subscriptions of the process share one sender."""

    def __init__(
        self,
        *,
        ledger: LedgerWriter,
        delivery: Delivery,
        breaker: Breaker,
        unaccepted: UnacceptedLetters,
        sender_address: str,
        stopping: asyncio.Event,
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._breaker = breaker
        self._unaccepted = unaccepted
        self._sender_address = sender_address
        self._stopping = stopping
        self._in_hand = asyncio.Semaphore(LETTERS_IN_HAND_MAX)
        self._conversations = asyncio.Semaphore(LETTERS_AT_ONCE_MAX)
        self._culprits = Culprits()
        self._background = Background()
        self._accepted = AcceptedLetters(ledger, self._background, stopping)

    async def send_all(self, letters: Sequence[DueLetter]) -> None:
        """Bring each letter to its end, or publish its next record; the offsets may be committed after that.

        A letter whose conversation is slow gets a ticket for the first step, and its task goes on by itself under its lease.
        Raises MailServerAway, MailServerSlow, Stopping, KafkaAway or what PostgreSQL raises, once no letter waits for its turn
        any more: the caller rewinds, and letters that were handled are recognised.
        """
        await self._accepted.catch_up()  # nothing is sent before every 250 is recorded
        trips, begin_by = self._breaker.trips, clock.monotonic() + BEGIN_SECONDS_MAX
        in_order = sorted(letters, key=lambda due: self._breaker.last_trip_of(due.ticket.letter_id))
        sends = [SendTask(due, begin_by) for due in in_order]
        for send in sends:
            send.task = asyncio.create_task(self._in_turn(send, trips))
        slow = await self._until_none_waits(sends)
        ended = [send.task for send in sends if send.task is not None and send.task.done()]
        for error in [task.exception() for task in ended]:
            if error is not None:
                raise error
        await self._unaccepted.defer([send.due for send in slow], reason="in_conversation")

    async def settle(self) -> None:
        """Wait, for a second at most, for the tasks that go on by themselves: leases protect the letters of the others."""
        await self._background.settle()

    async def _until_none_waits(self, sends: Sequence[SendTask]) -> list[SendTask]:
        """Return those that are slow once all others have ended; while the server is away nothing counts as slow."""
        pending = {send.task: send for send in sends if send.task is not None}
        try:
            while pending:
                done, _ = await asyncio.wait(pending, timeout=LOOK_EVERY_SECONDS)
                for task in done:
                    pending.pop(task)
                if self._breaker.reason is None and all(send.is_slow() for send in pending.values()):
                    break
        finally:  # this wait is cancelled when the time for a stop is up; the conversations are not
            for task in pending:
                self._background.add(task)
        return list(pending.values())

    async def _in_turn(self, send: SendTask, trips: int) -> None:
        async with self._in_hand:
            self._require_time(send)
            async with self._breaker.turn(trips):
                await self._send(send)

    def _require_time(self, send: SendTask) -> None:
        """Raise Stopping or MailServerSlow when no conversation may begin any more."""
        if self._stopping.is_set():
            raise errors.Stopping("the letter stays where it is")
        if clock.monotonic() > send.begin_by:
            raise MailServerSlow(f"not begun within {BEGIN_SECONDS_MAX:.0f} s")

    async def _send(self, send: SendTask) -> None:
        due = send.due
        match await self._ledger.claim(due):
            case Claimed() as claimed:
                send.due = claimed.due
                if claimed.maybe_sent:
                    metrics.letter_duplicates_possible.inc()
                    log_letter(due, "letter.maybe_sent_before", reason="it may have been accepted, without a record")
                await self._write_and_hand_over(claimed, send)
            case Suppress(reason=reason):
                count_letter(due, "suppressed")
                log_letter(due, "letter.suppressed", reason=reason)
            case Leased():
                await self._unaccepted.defer([due], reason="leased")
            case Undecided(awaited=awaited):
                await self._unaccepted.await_decision(due, awaited)
            case NothingToDo(why=why):
                log_letter(due, "letter.left_alone", reason=why)
                if why == UNKNOWN:
                    await self._unaccepted.publish_dead_letter(due, attempts=due.attempt, reason=UNKNOWN)
            case _ as never:
                assert_never(never)

    async def _write_and_hand_over(self, claimed: Claimed, send: SendTask) -> None:
        written = await self._write(claimed)
        if isinstance(written, Unwritten):
            await self._unaccepted.give_up(claimed, reason=written.reason, answer=None)
            return
        outcome = await self._converse(claimed, written, send)
        match outcome:
            case Accepted():
                self._breaker.close()
                await self._accepted.record(claimed, outcome)
            case LetterRefused():
                self._breaker.close()
                await self._unaccepted.retry(claimed, outcome)
            case ServerTrouble(reason=reason):
                tripped = self._breaker.trip(reason, claimed.letter_id)
                await self._ledger.release(claimed)
                raise tripped
            case NotHandedOver():
                # The server has nothing of it, even if it is recorded that DATA begins: its lease would delay it for long.
                await self._ledger.release(claimed)
                await self._unaccepted.defer([claimed.due], reason="not_handed_over")
            case _ as never:
                assert_never(never)

    async def _converse(self, claimed: Claimed, letter: Letter, send: SendTask) -> Outcome:
        """Send a letter when its turn comes; raises what kept `may_leave` from answering."""
        trouble: list[Exception] = []

        async def may_leave() -> bool:
            try:
                return await self._ledger.hand_over(claimed)
            except Exception as error:  # noqa: BLE001 - it is raised below, when the conversation is over
                trouble.append(error)
                return False

        async with self._conversations:
            try:
                self._require_time(send)
            except (errors.Stopping, MailServerSlow):
                await self._ledger.release(claimed)
                raise
            send.begun_at = clock.monotonic()
            outcome = await self._delivery.deliver(letter, may_leave=may_leave)
        if trouble:
            await self._ledger.release(claimed)
            raise trouble[0]
        return outcome

    async def _write(self, claimed: Claimed) -> Letter | Unwritten:
        if claimed.facts is None or claimed.templates is None:
            return Unwritten("booking_missing")
        try:
            return compose(claimed.facts, claimed.templates, sender=self._sender_address, at=clock.now())
        except MACHINE_ERRORS:
            await self._ledger.release(claimed)
            raise
        except Exception as error:  # noqa: BLE001 - one letter that cannot be written must not hold up the others for ever
            self._culprits.add(claimed.letter_id, error)
            return Unwritten(f"cannot_compose:{type(error).__name__}")
