"""Wiring of the email consumer: events of bookings and payments and the ladder's steps in, letters out.

Next in the walk: handlers.py.
"""

import asyncio
from collections.abc import Sequence

from consumers.email import kinds
from consumers.email.breaker import Breaker
from consumers.email.delivery import Delivery
from consumers.email.handlers import Changes, Entering, Reading, Retries
from consumers.email.sending import Sender
from shared import logs, settings, topics
from shared.db import engine as engines
from shared.db import health
from shared.kafka import retry, service
from shared.kafka.batch import Batches
from shared.kafka.broker import Subscription
from shared.kafka.producer import Producer

GROUP = "email"
PAYMENTS_GROUP = "email-payments"
RECORDS_MAX = 250
CONNECTIONS_MAX = 12  # three marks are shared by all letters in hand; the rest is for refusals, entering and health


class Settings(service.ServiceSettings, settings.Database, settings.Smtp):
    """What the email consumer reads from the environment."""

    health_port: int = 8013


async def run(configured: Settings) -> int:
    """Consume until told to stop; return the process's exit status."""
    prefix = configured.topic_prefix
    engine = engines.create(configured, application=GROUP, pool_size=CONNECTIONS_MAX)
    delivery = Delivery(configured)
    breaker = Breaker()
    database = health.trouble(engine)
    sending: list[Sender] = []

    def build(producer: Producer, stopping: asyncio.Event) -> Sequence[Subscription]:
        sender = Sender(
            engine=engine,
            delivery=delivery,
            producer=producer,
            breaker=breaker,
            sender_address=configured.smtp_from_email,
            group=prefix + GROUP,
            ladder=retry.steps(topics.EMAIL_LADDER, prefix=prefix),
            dead_topic=topics.EMAIL_DLT.named(prefix),
            stopping=stopping,
        )
        sending.append(sender)

        def changes(read: Reading, group: str, refusals: topics.Topic) -> Changes:
            entering = Entering(read, sender_domain=configured.smtp_from_email.rpartition("@")[2])
            batches = Batches(
                entering,
                engine=engine,
                producer=producer,
                group=prefix + group,
                target=None,
                refusals=refusals.named(prefix),
            )
            return Changes(batches, entering, sender)

        of_bookings = changes(kinds.of_booking, GROUP, topics.BOOKINGS_EVENTS_DLT)
        of_payments = changes(kinds.of_payment, PAYMENTS_GROUP, topics.PAYMENTS_EVENTS_DLT)

        def step(topic: topics.Topic) -> Subscription:
            group = f"{GROUP}-retry-{topic.delay_seconds}s"
            retries = Retries(sender, producer, group=prefix + group, refusals=topics.EMAIL_DLT.named(prefix))
            return Subscription(topic, group, retries.handle, configured, stopping, records_max=RECORDS_MAX)

        return [
            Subscription(topics.BOOKINGS_EVENTS, GROUP, of_bookings.handle, configured, stopping, records_max=RECORDS_MAX),
            Subscription(
                topics.PAYMENTS_EVENTS, PAYMENTS_GROUP, of_payments.handle, configured, stopping, records_max=RECORDS_MAX
            ),
            *(step(topic) for topic in topics.EMAIL_LADDER),
        ]

    async def trouble() -> Sequence[str]:
        away = [f"mail server: {breaker.reason}"] if breaker.reason else []
        return [*away, *await database()]

    try:
        return await service.run(configured, name=GROUP, build=build, trouble=trouble)
    finally:
        for sender in sending:
            await sender.settle()
        await delivery.close()
        await engine.dispose()


def main() -> int:
    """Read settings and run. Next: `python -m consumers.email`."""
    logs.configure(GROUP)
    return service.run_to_the_end(run(settings.read(Settings)))
