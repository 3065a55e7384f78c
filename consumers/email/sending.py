"""One letter, once: claim it, write it, hand it over, record what came of it.

The order is the promise. A claim is a lease with a token, taken in a transaction of its own. After the mail server's 250
nothing but the record matters, and it is made whoever holds the lease. A refused letter is a dead letter in Kafka before it
is one in the table. A process that dies in between leaves a lease that runs out; the letter is then sent again under the
same Message-ID, and counted as a possible duplicate (RFC 1047 says why this window cannot be closed).
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.email import ledger, store, tickets
from consumers.email.breaker import Breaker
from consumers.email.compose import Facts, Letter, Unaddressable, compose
from consumers.email.delivery import Accepted, Delivery, LetterRefused, ServerTrouble
from consumers.email.ledger import Busy, Claim, Over, State, Suppress
from consumers.email.template_cache import TemplateCache
from consumers.email.tickets import Due
from shared import clock, errors, logs, metrics
from shared.db import attention
from shared.kafka.batch import Culprits
from shared.kafka.producer import Producer
from shared.letters.templates import Templates

log = logs.get(__name__)

LETTERS_AT_ONCE_MAX = 8  # connections to the mail server; providers commonly allow ten from one address
MS_PER_SECOND = 1000
UNKNOWN = "unknown_letter"
ENDED = frozenset({State.SENT, State.SUPPRESSED, State.DEAD})


class Stopping(errors.Transient):
    """The process ends; a letter that was not begun is left for the next one."""


@dataclass(frozen=True, slots=True)
class Mine:
    """A letter that we hold the lease of."""

    due: Due
    token: uuid.UUID
    attempts: int


class Sender:
    """Sends letters side by side, a bounded number at once; both subscriptions of the process share one."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        delivery: Delivery,
        producer: Producer,
        breaker: Breaker,
        sender_address: str,
        group: str,
        later_topic: str,
        dead_topic: str,
        stopping: asyncio.Event,
    ) -> None:
        self._engine = engine
        self._delivery = delivery
        self._producer = producer
        self._breaker = breaker
        self._sender_address = sender_address
        self._group = group
        self._later_topic = later_topic
        self._dead_topic = dead_topic
        self._stopping = stopping
        self._slots = asyncio.Semaphore(LETTERS_AT_ONCE_MAX)
        self._culprits = Culprits()
        self._templates = TemplateCache()
        self._unrecorded: dict[uuid.UUID, tuple[Mine, Accepted]] = {}

    async def send_all(self, letters: Sequence[Due]) -> None:
        """Bring each letter to an end or to its next record in Kafka; the offsets may be committed after that.

        Raises MailServerAway, Stopping, KafkaAway or what PostgreSQL raises, after every conversation that was begun has
        ended: the caller rewinds, and what was done is recognised.
        """
        for mine, accepted in list(self._unrecorded.values()):
            await self._record(mine, accepted)
        trips = self._breaker.trips
        ends = await asyncio.gather(*(self._when_free(due, trips) for due in letters), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    async def _when_free(self, due: Due, trips: int) -> None:
        async with self._slots:
            if self._stopping.is_set():
                raise Stopping("the letter stays where it is")
            async with self._breaker.turn(trips):
                await self._send(due)

    async def _send(self, due: Due) -> None:
        letter_id, token = due.ticket.letter_id, uuid.uuid4()
        facts = templates = None
        async with self._engine.begin() as tx:
            standing = await store.load(tx, letter_id)
            judgement = ledger.judge(standing, attempt=due.attempt, replayed=due.replayed) if standing else Over(UNKNOWN)
            match judgement:
                case Claim(maybe_sent=maybe_sent):
                    await store.claim(tx, letter_id, token, maybe_sent=maybe_sent)
                    facts = await store.facts(tx, letter_id)
                    templates = await self._templates.of(tx, facts.template_version) if facts else None
                case Suppress(reason=reason):
                    await store.suppress(tx, letter_id, reason)
                case Busy() | Over():
                    pass
                case _ as never:
                    assert_never(never)
        match judgement:
            case Claim(maybe_sent=maybe_sent):
                assert standing is not None
                if maybe_sent:
                    metrics.letter_duplicates_possible.inc()
                    _tell(due, "letter.maybe_sent_before", reason="its sender left no record")
                written = self._write(facts, templates)
                await self._hand_over(Mine(due, token, standing.attempts), written)
            case Suppress(reason=reason):
                _count(due, "suppressed")
                _tell(due, "letter.suppressed", reason=reason)
            case Busy():
                await self._look_again_later(due)
            case Over(why=why):
                _tell(due, "letter.left_alone", reason=why)
                if standing is None:
                    await self._bury(due, attempts=due.attempt, reason=UNKNOWN)
            case _ as never:
                assert_never(never)

    async def _hand_over(self, mine: Mine, written: Letter | Unaddressable) -> None:
        if isinstance(written, Unaddressable):
            await self._give_up(mine, reason=written.reason, answer=None)
            return
        match await self._delivery.deliver(written):
            case Accepted() as accepted:
                self._breaker.close()
                await self._record(mine, accepted)
            case LetterRefused(code=code, permanent=permanent, answer=answer):
                self._breaker.close()
                kind = "connection_lost" if code is None else "smtp_permanent" if permanent else "smtp_transient"
                await self._give_up(mine, reason=f"{kind}:{answer}", answer=answer)
            case ServerTrouble(reason=reason):
                tripped = self._breaker.trip(reason)
                async with self._engine.begin() as tx:
                    await store.release(tx, mine.due.ticket.letter_id, mine.token)
                raise tripped
            case _ as never:
                assert_never(never)

    def _write(self, facts: Facts | None, templates: Templates | None) -> Letter | Unaddressable:
        if facts is None or templates is None:
            return Unaddressable("booking_missing")
        try:
            return compose(facts, templates, sender=self._sender_address, at=clock.now())
        except Exception as error:  # noqa: BLE001 - one letter that cannot be written must not hold up the others for ever
            self._culprits.add(error)
            return Unaddressable(f"cannot_compose:{type(error).__name__}")

    async def _record(self, mine: Mine, accepted: Accepted) -> None:
        """Record a 250; when the database is away it is remembered here, and recorded before anything else is sent."""
        letter_id = mine.due.ticket.letter_id
        self._unrecorded[letter_id] = (mine, accepted)
        async with self._engine.begin() as tx:
            recorded = await store.record_sent(tx, letter_id, mine.token, accepted.answer)
        self._unrecorded.pop(letter_id, None)
        _count(mine.due, "sent")
        metrics.letter_seconds.observe(recorded.seconds)
        _tell(mine.due, "letter.sent", outcome="claim_held" if recorded.claim_held else "claim_lost")

    async def _give_up(self, mine: Mine, *, reason: str, answer: str | None) -> None:
        """Make it a dead letter: first in Kafka, then in the table. `answer` is None where no mail server judged it."""
        judged = answer is not None
        attempts = mine.attempts + int(judged)
        await self._bury(mine.due, attempts=attempts, reason=reason)
        ticket = mine.due.ticket
        async with self._engine.begin() as tx:
            held = await store.record_dead(tx, ticket.letter_id, mine.token, judged=judged, reason=reason, answer=answer)
            if held and not judged:
                aggregate = f"booking:{ticket.booking_id}"
                code = reason.partition(":")[0]
                await attention.open_(tx, reason=f"letter_{code}", aggregate=aggregate, cause=str(ticket.letter_id))
            standing = None if held else await store.load(tx, ticket.letter_id)
        if standing is not None and standing.state not in ENDED:
            await self._look_again_later(mine.due)
        _count(mine.due, "dead")
        _tell(mine.due, "letter.dead", reason=reason, attempts=attempts)

    async def _bury(self, due: Due, *, attempts: int, reason: str) -> None:
        letter = tickets.dead(due, topic=self._dead_topic, group=self._group, attempts=attempts, reason=reason)
        await self._producer.publish([letter])
        metrics.dead_letters.labels(self._dead_topic, reason.partition(":")[0]).inc()

    async def _look_again_later(self, due: Due) -> None:
        now_ms = int(clock.now().timestamp() * MS_PER_SECOND)
        await self._producer.publish([tickets.later(due, topic=self._later_topic, now_ms=now_ms)])
        _tell(due, "letter.busy", reason="somebody else holds its lease")


def _count(due: Due, outcome: str) -> None:
    metrics.letters.labels(due.ticket.kind, due.ticket.role, outcome).inc()


def _tell(due: Due, event: str, **fields: object) -> None:
    ticket = due.ticket
    log.info(
        event, letter_id=str(ticket.letter_id), booking_id=str(ticket.booking_id), kind=ticket.kind, role=ticket.role, **fields
    )
