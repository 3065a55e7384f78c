"""Sends each letter once: claim it, write it, hand it over, record the outcome.

Safety lies in the order. A claim is a lease with a token. Between RCPT and DATA the sender checks in the ledger that the claim
still holds, records that DATA begins, and renews the lease. The mail server's 250 is always recorded, even when another sender
holds the lease by then. A refused letter has its next record in Kafka before the ledger says so. A process that dies in between
leaves a lease that expires; the letter is then sent again under the same Message-ID, and counted as a possible duplicate if
DATA had begun (RFC 1047 says why this window cannot be closed). Next in the walk: compose.py, which writes a letter.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.email import tickets
from consumers.email.breaker import Breaker
from consumers.email.compose import Letter, Unwritten, compose
from consumers.email.delivery import Delivery
from consumers.email.ledger import Awaited, Leased, Over, Suppress, Undecided
from consumers.email.ledger_writer import UNKNOWN, Claimed, LedgerWriter
from consumers.email.outcomes import Accepted, HeldBack, LetterRefused, Outcome, ServerTrouble
from consumers.email.tickets import Due
from shared import clock, errors, logs, metrics
from shared.db.engine import TROUBLE
from shared.kafka import retry
from shared.kafka.backoff import Backoff
from shared.kafka.batch import Culprits
from shared.kafka.producer import Producer
from shared.kafka.records import Record
from shared.kafka.retry import Step

log = logs.get(__name__)

LETTERS_AT_ONCE_MAX = 10  # connections to the mail server: as many as providers commonly allow from one address
LETTERS_IN_HAND_MAX = 40  # being claimed, written or recorded while others are with the mail server
PATIENCE_SECONDS = 0.5  # a conversation that takes longer holds up no other letter: its lease protects it
LOOK_EVERY_SECONDS = 0.1
BEGIN_SECONDS_MAX = 30.0  # plus the longest conversation, below the two minutes after which a batch counts as stuck
SETTLE_SECONDS_MAX = 1.0
MACHINE_ERRORS = (OSError, MemoryError)  # out of files, or of memory: no letter is to blame


class MailServerSlow(errors.Transient):
    """Not all letters of a batch could be begun in time; those that were are recognised when the batch comes again."""


@dataclass(slots=True)
class Flight:
    """One letter being sent; `begun_at` is when its conversation with the mail server began, `begin_by` when it must have."""

    due: Due
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
        engine: AsyncEngine,
        delivery: Delivery,
        producer: Producer,
        breaker: Breaker,
        sender_address: str,
        group: str,
        ladder: Sequence[Step],
        dead_topic: str,
        stopping: asyncio.Event,
    ) -> None:
        self._ledger = LedgerWriter(engine)
        self._delivery = delivery
        self._producer = producer
        self._breaker = breaker
        self._sender_address = sender_address
        self._group = group
        self._ladder = ladder
        self._dead_topic = dead_topic
        self._stopping = stopping
        self._in_hand = asyncio.Semaphore(LETTERS_IN_HAND_MAX)
        self._conversations = asyncio.Semaphore(LETTERS_AT_ONCE_MAX)
        self._culprits = Culprits()
        self._unrecorded: dict[uuid.UUID, tuple[Claimed, Accepted]] = {}
        self._catching_up = asyncio.Lock()
        self._recording: asyncio.Task[None] | None = None
        self._going_on: set[asyncio.Task[None]] = set()

    async def send_all(self, letters: Sequence[Due]) -> None:
        """Bring each letter to its end, or publish its next record; the offsets may be committed after that.

        A letter whose conversation is slow gets a ticket for the first step, and its task goes on by itself under its lease.
        Raises MailServerAway, MailServerSlow, Stopping, KafkaAway or what PostgreSQL raises, once no letter waits for its turn
        any more: the caller rewinds, and letters that were handled are recognised.
        """
        await self._catch_up()
        trips, begin_by = self._breaker.trips, clock.monotonic() + BEGIN_SECONDS_MAX
        in_order = sorted(letters, key=lambda due: self._breaker.last_trip_of(due.ticket.letter_id))
        flights = [Flight(due, begin_by) for due in in_order]
        for flight in flights:
            flight.task = asyncio.create_task(self._in_turn(flight, trips))
        slow = await self._until_none_waits(flights)
        ended = [flight.task for flight in flights if flight.task is not None and flight.task.done()]
        for error in [task.exception() for task in ended]:
            if error is not None:
                raise error
        await self._defer([flight.due for flight in slow], reason="in_conversation")

    async def settle(self) -> None:
        """Wait, for a second at most, for the tasks that go on by themselves: leases protect the letters of the others."""
        if self._going_on:
            await asyncio.wait(self._going_on, timeout=SETTLE_SECONDS_MAX)

    async def _until_none_waits(self, flights: Sequence[Flight]) -> list[Flight]:
        """Return the flights that are slow once all others have ended; while the server is away nothing counts as slow."""
        pending = {flight.task: flight for flight in flights if flight.task is not None}
        try:
            while pending:
                done, _ = await asyncio.wait(pending, timeout=LOOK_EVERY_SECONDS)
                for task in done:
                    pending.pop(task)
                if self._breaker.reason is None and all(flight.is_slow() for flight in pending.values()):
                    break
        finally:  # this wait is cancelled when the time for a stop is up; the conversations are not
            for task in pending:
                self._let_go_on(task)
        return list(pending.values())

    def _let_go_on(self, task: "asyncio.Task[None]") -> None:
        self._going_on.add(task)
        task.add_done_callback(self._ended_alone)

    def _ended_alone(self, task: "asyncio.Task[None]") -> None:
        self._going_on.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its letter comes again: by its ticket in the first step, or with its batch. An unrecorded 250 waits in memory.
            log.warning("letter.left_alone_failed", error=type(error).__name__)

    async def _in_turn(self, flight: Flight, trips: int) -> None:
        async with self._in_hand:
            self._require_time(flight)
            async with self._breaker.turn(trips):
                await self._send(flight)

    def _require_time(self, flight: Flight) -> None:
        """Raise Stopping or MailServerSlow when no conversation may begin any more."""
        if self._stopping.is_set():
            raise errors.Stopping("the letter stays where it is")
        if clock.monotonic() > flight.begin_by:
            raise MailServerSlow(f"not begun within {BEGIN_SECONDS_MAX:.0f} s")

    async def _send(self, flight: Flight) -> None:
        due = flight.due
        match await self._ledger.claim(due):
            case Claimed() as claimed:
                flight.due = claimed.due
                if claimed.maybe_sent:
                    metrics.letter_duplicates_possible.inc()
                    _log(due, "letter.maybe_sent_before", reason="it may have been accepted, and nobody knows")
                await self._write_and_hand_over(claimed, flight)
            case Suppress(reason=reason):
                _count(due, "suppressed")
                _log(due, "letter.suppressed", reason=reason)
            case Leased():
                await self._defer([due], reason="leased")
            case Undecided(awaited=awaited):
                await self._await_decision(due, awaited)
            case Over(why=why):
                _log(due, "letter.left_alone", reason=why)
                if why == UNKNOWN:
                    await self._to_dlt(due, attempts=due.attempt, reason=UNKNOWN)
            case _ as never:
                assert_never(never)

    async def _write_and_hand_over(self, claimed: Claimed, flight: Flight) -> None:
        written = await self._write(claimed)
        if isinstance(written, Unwritten):
            await self._give_up(claimed, reason=written.reason, answer=None)
            return
        outcome = await self._converse(claimed, written, flight)
        match outcome:
            case Accepted():
                self._breaker.close()
                await self._record(claimed, outcome)
            case LetterRefused():
                self._breaker.close()
                await self._retry(claimed, outcome)
            case ServerTrouble(reason=reason):
                tripped = self._breaker.trip(reason, claimed.letter_id)
                await self._ledger.release(claimed)
                raise tripped
            case HeldBack():
                # The server has nothing of it, even if it is recorded that DATA begins: its lease would delay it for long.
                await self._ledger.release(claimed)
                await self._defer([claimed.due], reason="not_handed_over")
            case _ as never:
                assert_never(never)

    async def _converse(self, claimed: Claimed, letter: Letter, flight: Flight) -> Outcome:
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
                self._require_time(flight)
            except (errors.Stopping, MailServerSlow):
                await self._ledger.release(claimed)
                raise
            flight.begun_at = clock.monotonic()
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

    async def _record(self, claimed: Claimed, accepted: Accepted) -> None:
        """Record a 250; when the database is away, keep it in memory, and record it soon, before anything else is sent."""
        try:
            recorded = await self._ledger.sent(claimed, accepted.answer)
        except BaseException:  # also on cancellation: another batch may still be sent
            self._unrecorded[claimed.letter_id] = (claimed, accepted)
            if self._recording is None or self._recording.done():
                self._recording = asyncio.create_task(self._record_in_time())
                self._let_go_on(self._recording)
            raise
        _count(claimed.due, "sent")
        if recorded is None:
            _log(claimed.due, "letter.sent", outcome="row_lost")
            return
        metrics.letter_seconds.observe(recorded.seconds)
        _log(claimed.due, "letter.sent", outcome="claim_held" if recorded.claim_held else "claim_lost")

    async def _catch_up(self) -> None:
        async with self._catching_up:  # other batches wait meanwhile: nothing is sent before every 250 is recorded
            while self._unrecorded:
                await self._record(*self._unrecorded.popitem()[1])

    async def _record_in_time(self) -> None:
        """Record what no later batch may: another member that has the letter by now would send it again after its lease."""
        backoff = Backoff()
        while self._unrecorded:
            await backoff.pause(self._stopping)
            with suppress(*TROUBLE):
                await self._catch_up()
            if self._stopping.is_set():
                return

    async def _retry(self, claimed: Claimed, refused: LetterRefused) -> None:
        """Try a refused letter again on the ladder's next step; give it up when refused for good, or after the last step."""
        kind = "connection_lost" if refused.code is None else "smtp_permanent" if refused.permanent else "smtp_transient"
        reason, attempts = f"{kind}:{refused.answer}", claimed.attempts + 1
        step = None if refused.permanent else retry.step_after(self._ladder, attempts)
        if step is None:
            await self._give_up(claimed, reason=reason, answer=refused.answer)
            return
        await self._producer.publish([tickets.tried(claimed.due, step, attempts=attempts, reason=reason, now_ms=_now_ms())])
        await self._ledger.retrying(claimed, reason=reason, answer=refused.answer)
        _count(claimed.due, "retrying")
        _log(claimed.due, "letter.retrying", reason=reason, attempts=attempts, seconds=step.delay_seconds)

    async def _give_up(self, claimed: Claimed, *, reason: str, answer: str | None) -> None:
        """Make it a dead letter: first in Kafka, then in the table. `answer` is None where no mail server judged it.

        A sender that holds it by now sends it, or gives it up.
        """
        attempts = claimed.attempts + int(answer is not None)
        await self._to_dlt(claimed.due, attempts=attempts, reason=reason)
        if not await self._ledger.dead(claimed, reason=reason, answer=answer):
            await self._defer([claimed.due], reason="claim_lost")
            return
        _count(claimed.due, "dead")
        _log(claimed.due, "letter.dead", reason=reason, attempts=attempts)

    async def _to_dlt(self, due: Due, *, attempts: int, reason: str) -> None:
        letter = tickets.dead(due, topic=self._dead_topic, group=self._group, attempts=attempts, reason=reason)
        await self._producer.publish([letter])
        metrics.dead_letters.labels(self._dead_topic, reason.partition(":")[0]).inc()

    async def _defer(self, letters: Sequence[Due], *, reason: str) -> None:
        """Put letters that a lease protects into the ladder's first step, their attempts unchanged."""
        step, now_ms = self._ladder[0], _now_ms()
        records: list[Record] = [tickets.later(due, step, now_ms=now_ms) for due in letters]
        await self._producer.publish(records)
        for due in letters:
            _log(due, "letter.deferred", reason=reason, seconds=step.delay_seconds)

    async def _await_decision(self, due: Due, awaited: Awaited) -> None:
        """Let an undecided letter wait on the ladder, longer at each look; notify an operator once when it takes too long."""
        if tickets.undecided_for_long(due, self._ladder):
            await self._ledger.undecided_for_long(due, awaited)
        ticket, step = tickets.undecided(due, self._ladder, now_ms=_now_ms())
        await self._producer.publish([ticket])
        _log(due, "letter.deferred", reason=f"undecided:{awaited}", count=due.looks + 1, seconds=step.delay_seconds)


def _now_ms() -> int:
    return int(clock.now().timestamp() * retry.MS_PER_SECOND)


def _count(due: Due, outcome: str) -> None:
    metrics.letters.labels(due.ticket.kind, due.ticket.role, outcome).inc()


def _log(due: Due, event: str, **fields: object) -> None:
    ticket = due.ticket
    log.info(
        event, letter_id=str(ticket.letter_id), booking_id=str(ticket.booking_id), kind=ticket.kind, role=ticket.role, **fields
    )
