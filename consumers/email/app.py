"""Wiring of the email consumer: events of bookings and payments and the ladder's steps in, letters out.

Next: handlers.py.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.email import kinds
from consumers.email.breaker import Breaker
from consumers.email.delivery import Delivery
from consumers.email.handlers import Changes, LetterIntake, Reading, Retries
from consumers.email.ledger_writer import LedgerWriter
from consumers.email.sending import Sender
from consumers.email.unaccepted import UnacceptedLetters
from shared import ending, environment, logs, metrics, settings, topics
from shared.db import engine as engines
from shared.db import health
from shared.kafka import retry, service
from shared.kafka.batch import Batches
from shared.kafka.producer import Producer
from shared.kafka.subscription import Handler, Subscription
from shared.letters.words import LETTERS

PROCESS = "email"
GROUP = topics.BOOKINGS_EVENTS.group_of(PROCESS)
PAYMENTS_GROUP = topics.PAYMENTS_EVENTS.group_of(PROCESS)
RECORDS_MAX = 250
CONNECTIONS_MAX = 12  # three for the group commits of all letters; the rest is for refusals, intake and health


class Settings(service.ServiceSettings, settings.Database, settings.Smtp):
    """What the email consumer reads from the environment."""

    health_port: int = 8013


async def run(configured: Settings) -> int:
    """Consume until told to stop; return the process's exit status."""
    async with AsyncExitStack() as held:
        engine = engines.create(configured, application=PROCESS, pool_size=CONNECTIONS_MAX)
        held.push_async_callback(engine.dispose)
        wiring = Wiring(configured, engine)
        held.push_async_callback(wiring.close)
        return await service.run(configured, name=PROCESS, build=wiring.subscriptions, trouble=wiring.trouble)


class Wiring:
    """One sender for the whole process, with its breaker and its mail connections, and the handler of each topic."""

    def __init__(self, configured: Settings, engine: AsyncEngine) -> None:
        self._configured = configured
        self._engine = engine
        self._delivery = Delivery(configured)
        self._breaker = Breaker()
        self._database_trouble = health.trouble(engine)
        self._sender: Sender | None = None
        for letter in LETTERS:
            role, _, kind = letter.partition("_")
            metrics.letters.labels(kind, role, "dead")  # is 0 from the start, so that the first increase can be seen

    def subscriptions(self, producer: Producer, end: ending.End) -> Sequence[Subscription]:
        """Return a subscription for each topic; `producer` has started, and the sender publishes on it."""
        prefix, dead_letters = self._configured.topic_prefix, self._named(topics.EMAIL_DLT)
        ledger = LedgerWriter(self._engine)
        ladder = retry.steps(topics.EMAIL_LADDER, prefix=prefix)
        sender = self._sender = Sender(
            ledger=ledger,
            delivery=self._delivery,
            breaker=self._breaker,
            unaccepted=UnacceptedLetters(ledger, producer, ladder=ladder, dead_topic=dead_letters, group=prefix + GROUP),
            sender_address=self._configured.smtp_from_email,
            stopping=end.stopping,
        )
        bookings = self._changes(kinds.of_booking, sender, producer, GROUP, topics.BOOKINGS_EVENTS_DLT)
        payments = self._changes(kinds.of_payment, sender, producer, PAYMENTS_GROUP, topics.PAYMENTS_EVENTS_DLT)
        bound: list[tuple[topics.Topic, str, Handler]] = [
            (topics.BOOKINGS_EVENTS, GROUP, bookings.handle),
            (topics.PAYMENTS_EVENTS, PAYMENTS_GROUP, payments.handle),
        ]
        for step in topics.EMAIL_LADDER:
            group = step.group_of(PROCESS)
            retries = Retries(sender, producer, group=prefix + group, refusals=dead_letters)
            bound.append((step, group, retries.handle))
        return [
            Subscription(topic, group, handle, self._configured, end, records_max=RECORDS_MAX) for topic, group, handle in bound
        ]

    async def trouble(self) -> Sequence[str]:
        """Return why the process is not ready, beside what Kafka says."""
        away = [f"mail server: {self._breaker.reason}"] if self._breaker.reason else []
        return [*away, *await self._database_trouble()]

    async def close(self) -> None:
        """Let letters that are under way come to their end, and close the connections to the mail server."""
        if self._sender is not None:
            await self._sender.settle()
        await self._delivery.close()

    def _changes(self, read: Reading, sender: Sender, producer: Producer, group: str, refusals: topics.Topic) -> Changes:
        intake = LetterIntake(read, sender_domain=self._configured.smtp_from_email.rpartition("@")[2])
        batches = Batches(
            intake,
            engine=self._engine,
            producer=producer,
            group=self._configured.topic_prefix + group,
            target=None,
            refusals=self._named(refusals),
        )
        return Changes(batches, intake, sender)

    def _named(self, topic: topics.Topic) -> str:
        return topic.named(self._configured.topic_prefix)


def main() -> int:
    """Read settings and run; return the exit status of `python -m consumers.email`."""
    logs.configure(PROCESS)
    return ending.run_to_the_end(run(environment.read(Settings)))
