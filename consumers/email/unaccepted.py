"""What follows for a letter that was not accepted: a later record in Kafka, or a dead letter.

Enters: a letter that the mail server refused, that cannot be written, or that may not be sent yet. Leaves: its record on a step
of the ladder or among the dead letters, acknowledged by Kafka, and only then its row's new state: a process that dies in
between leaves a letter that comes again. Next: ledger_writer.py.
"""

from collections.abc import Sequence

from consumers.email import tickets
from consumers.email.ledger import Awaited
from consumers.email.ledger_writer import Claimed, LedgerWriter
from consumers.email.outcomes import LetterRefused
from consumers.email.reporting import count_letter, log_letter
from consumers.email.tickets import DueLetter
from shared import clock, metrics
from shared.kafka import retry
from shared.kafka.producer import Producer
from shared.kafka.retry import Step


class UnacceptedLetters:
    """Publishes the next record of each letter; `dead_topic` takes those that are given up, in the name of `group`."""

    def __init__(
        self, ledger: LedgerWriter, producer: Producer, *, ladder: Sequence[Step], dead_topic: str, group: str
    ) -> None:
        self._ledger = ledger
        self._producer = producer
        self._ladder = ladder
        self._dead_topic = dead_topic
        self._group = group

    async def retry(self, claimed: Claimed, refused: LetterRefused) -> None:
        """Try a refused letter again on the ladder's next step; give it up when refused for good, or after the last step."""
        kind = "connection_lost" if refused.code is None else "smtp_permanent" if refused.permanent else "smtp_transient"
        reason, attempts = f"{kind}:{refused.answer}", claimed.attempts + 1
        step = None if refused.permanent else retry.step_after(self._ladder, attempts)
        if step is None:
            await self.give_up(claimed, reason=reason, answer=refused.answer)
            return
        await self._producer.publish([tickets.tried(claimed.due, step, attempts=attempts, reason=reason, now_ms=_now_ms())])
        await self._ledger.retrying(claimed, reason=reason, answer=refused.answer)
        count_letter(claimed.due, "retrying")
        log_letter(claimed.due, "letter.retrying", reason=reason, attempts=attempts, seconds=step.delay_seconds)

    async def give_up(self, claimed: Claimed, *, reason: str, answer: str | None) -> None:
        """Make it a dead letter: first in Kafka, then in the table. `answer` is None where no mail server judged it.

        A sender that holds it by now sends it, or gives it up.
        """
        attempts = claimed.attempts + int(answer is not None)
        await self.publish_dead_letter(claimed.due, attempts=attempts, reason=reason)
        if not await self._ledger.dead(claimed, reason=reason, answer=answer):
            await self.defer([claimed.due], reason="claim_lost")
            return
        count_letter(claimed.due, "dead")
        log_letter(claimed.due, "letter.dead", reason=reason, attempts=attempts)

    async def publish_dead_letter(self, due: DueLetter, *, attempts: int, reason: str) -> None:
        """Publish a dead letter, and leave the table as it is."""
        dead_letter = tickets.dead_letter(due, topic=self._dead_topic, group=self._group, attempts=attempts, reason=reason)
        await self._producer.publish([dead_letter])
        metrics.dead_letters.labels(self._dead_topic, reason.partition(":")[0]).inc()

    async def defer(self, letters: Sequence[DueLetter], *, reason: str) -> None:
        """Put letters that a lease protects into the ladder's first step, their attempts unchanged."""
        step, now_ms = self._ladder[0], _now_ms()
        await self._producer.publish([tickets.later(due, step, now_ms=now_ms) for due in letters])
        for due in letters:
            log_letter(due, "letter.deferred", reason=reason, seconds=step.delay_seconds)

    async def await_decision(self, due: DueLetter, awaited: Awaited) -> None:
        """Let an undecided letter wait on the ladder, longer at each look; notify an operator once when it takes too long."""
        if tickets.undecided_for_long(due, self._ladder):
            await self._ledger.undecided_for_long(due, awaited)
        ticket, step = tickets.undecided(due, self._ladder, now_ms=_now_ms())
        await self._producer.publish([ticket])
        log_letter(due, "letter.deferred", reason=f"undecided:{awaited}", count=due.looks + 1, seconds=step.delay_seconds)


def _now_ms() -> int:
    return int(clock.now().timestamp() * retry.MS_PER_SECOND)
