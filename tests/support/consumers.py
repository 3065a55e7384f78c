"""The three consumers as their app.py wires them, in this process: a test hands them records and looks at what they leave."""

import asyncio
from contextlib import asynccontextmanager, contextmanager

import pytest

from consumers.bookings.handlers import Bookings
from consumers.email import kinds, sending
from consumers.email.breaker import Breaker
from consumers.email.delivery import Delivery
from consumers.email.handlers import Changes, LetterIntake, Retries
from consumers.email.ledger_writer import LedgerWriter
from consumers.email.sending import Sender
from consumers.email.unaccepted import UnacceptedLetters
from consumers.payments.handlers import Payments
from shared import settings, topics
from shared.errors import KafkaAway
from shared.kafka import retry
from shared.kafka.batch import Batches
from shared.kafka.records import Incoming
from tests.support.builders import record
from tests.support.fakes import Published


def payments_of(engine, producer):
    """The payments consumer's batches."""
    return Batches(
        Payments(),
        engine=engine,
        producer=producer,
        group="payments",
        target="payments.events",
        refusals="stripe.events.dlt",
    )


def bookings_of(engine, producer):
    """The bookings consumer's batches."""
    return Batches(
        Bookings(),
        engine=engine,
        producer=producer,
        group="bookings",
        target="bookings.events",
        refusals="payments.events.dlt",
    )


class Reachable(Published):
    """A producer that remembers, or is away."""

    def __init__(self):
        super().__init__()
        self.away = False

    async def publish(self, records, *, deadline_seconds=5.0):
        if self.away and records:
            raise KafkaAway("away")
        await super().publish(records, deadline_seconds=deadline_seconds)

    def to(self, topic):
        return [r for r in self.records if r.topic == topic]

    def incoming(self, topic):
        return [Incoming(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(self.to(topic))]


class Email:
    """The email consumer as app.py wires it, with its producer in hand."""

    def __init__(self, engine, mailbox):
        self.published, self.breaker, self.stopping = Reachable(), Breaker(), asyncio.Event()
        smtp = settings.Smtp(
            smtp_host="127.0.0.1",
            smtp_port=mailbox.smtp_port,
            smtp_from_email="noreply@culturebridge.example",
            smtp_security="none",
        )
        self.delivery = Delivery(smtp)
        ledger, ladder = LedgerWriter(engine), retry.steps(topics.EMAIL_LADDER, prefix="")
        self.sender = Sender(
            ledger=ledger,
            delivery=self.delivery,
            breaker=self.breaker,
            unaccepted=UnacceptedLetters(ledger, self.published, ladder=ladder, dead_topic="email.dlt", group="email"),
            sender_address=smtp.smtp_from_email,
            stopping=self.stopping,
        )

        def changes(read, group, refusals):
            intake = LetterIntake(read, sender_domain="culturebridge.example")
            batches = Batches(intake, engine=engine, producer=self.published, group=group, target=None, refusals=refusals)
            return Changes(batches, intake, self.sender)

        self.changes = changes(kinds.of_booking, "email", "bookings.events.dlt")
        self.payments = changes(kinds.of_payment, "email-payments", "payments.events.dlt")
        self.retries = Retries(self.sender, self.published, group="email-retry-1s", refusals="email.dlt")


class Walk:
    """Stripe says something, and every consumer has done its part when the call returns.

    Each message is a batch of its own, and what follows from it is done before its neighbour: whatever may slip in between
    two messages, does. A letter that waits for what the bookings consumer decides is looked at again once that has decided.
    A consumer works by `engine`, or by one of its own.
    """

    def __init__(self, engine, mailbox, *, payments=None, bookings=None, email=None):
        self.engine, self.mailbox = engine, mailbox
        self.email = Email(email or engine, mailbox)
        self.published = Published()
        self.payments = payments_of(payments or engine, self.published)
        self.bookings = bookings_of(bookings or engine, self.published)
        self._tickets_taken = 0

    async def stripe_says(self, *events):
        for event in events:
            await self.take(record(event))

    async def take(self, incoming):
        """Let the payments consumer take this record, and everybody what follows from it."""
        await self._follow(self.payments.handle([incoming]))

    async def _follow(self, handling):
        begun = len(self.published.records)
        await handling
        for place in range(begun, len(self.published.records)):
            sent = self.published.records[place]
            message = Incoming(sent.topic, 0, place, sent.key, sent.value, sent.headers)
            if sent.topic == "payments.events":
                await self.email.payments.handle([message])
                await self._follow(self.bookings.handle([message]))
                await self._look_again()
            elif sent.topic == "bookings.events":
                await self.email.changes.handle([message])

    async def _look_again(self):
        tickets = self.email.published.incoming("email.retry.1s")[self._tickets_taken :]
        self._tickets_taken += len(tickets)
        if tickets:
            await self.email.retries.handle(tickets)


@contextmanager
def patient():
    """No letter is slow inside the block, however long this machine stands still."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sending, "PATIENCE_SECONDS", 60.0)
        yield


@asynccontextmanager
async def walking(engine, mailbox, **engines):
    """A walk around this database and mailbox; its mail connections are closed afterwards, and no letter of it is slow."""
    with patient():
        walk = Walk(engine, mailbox, **engines)
        yield walk
        await walk.email.delivery.close()
