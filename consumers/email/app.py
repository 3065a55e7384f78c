"""Wiring of the email consumer: `bookings.events`, `payments.events` and the 1 s step in, letters out, bound to handlers.py.

Next in the walk: handlers.py.
"""

import asyncio
from collections.abc import Sequence

from consumers.email import kinds
from consumers.email.breaker import Breaker
from consumers.email.delivery import Delivery
from consumers.email.handlers import Changes, Entering, Reading, Retries
from consumers.email.sending import LETTERS_AT_ONCE_MAX, Sender
from shared import logs, settings, topics
from shared.db import engine as engines
from shared.db import health
from shared.kafka import service
from shared.kafka.batch import Batches
from shared.kafka.broker import Subscription
from shared.kafka.producer import Producer

GROUP = "email"
PAYMENTS_GROUP = "email-payments"
RETRY_GROUP = "email-retry-1s"
# Two letters a booking, eight at once, 20 s each at worst: below the two minutes after which a batch counts as stuck.
RECORDS_MAX = 16


class Settings(service.ServiceSettings, settings.Database, settings.Smtp):
    """What the email consumer reads from the environment."""

    health_port: int = 8013


async def run(configured: Settings) -> int:
    """Consume until told to stop; return the process's exit status."""
    prefix = configured.topic_prefix
    engine = engines.create(configured, application=GROUP, pool_size=LETTERS_AT_ONCE_MAX + 2)
    delivery = Delivery(configured)
    breaker = Breaker()
    database = health.trouble(engine)

    def build(producer: Producer, stopping: asyncio.Event) -> Sequence[Subscription]:
        sender = Sender(
            engine=engine,
            delivery=delivery,
            producer=producer,
            breaker=breaker,
            sender_address=configured.smtp_from_email,
            group=prefix + GROUP,
            later_topic=topics.EMAIL_RETRY_1S.named(prefix),
            dead_topic=topics.EMAIL_DLT.named(prefix),
            stopping=stopping,
        )

        def changes(read: Reading, group: str, refusals: topics.Topic) -> Changes:
            entering = Entering(read, sender_domain=configured.smtp_from_email.rpartition("@")[2])
            batches = Batches(
                entering,
                engine=engine,
                producer=producer,
                group=prefix + group,
                target=topics.EMAIL_RETRY_1S.named(prefix),  # entering letters emits nothing
                refusals=refusals.named(prefix),
            )
            return Changes(batches, entering, sender)

        of_bookings = changes(kinds.of_booking, GROUP, topics.BOOKINGS_EVENTS_DLT)
        of_payments = changes(kinds.of_payment, PAYMENTS_GROUP, topics.PAYMENTS_EVENTS_DLT)
        retries = Retries(
            sender,
            producer,
            group=prefix + RETRY_GROUP,
            refusals=topics.EMAIL_DLT.named(prefix),
            stopping=stopping,
        )
        return [
            Subscription(topics.BOOKINGS_EVENTS, GROUP, of_bookings.handle, configured, stopping, records_max=RECORDS_MAX),
            Subscription(
                topics.PAYMENTS_EVENTS, PAYMENTS_GROUP, of_payments.handle, configured, stopping, records_max=RECORDS_MAX
            ),
            Subscription(
                topics.EMAIL_RETRY_1S,
                RETRY_GROUP,
                retries.handle,
                configured,
                stopping,
                records_max=RECORDS_MAX,
                wait_first=retries.wait_until_due,
            ),
        ]

    async def trouble() -> Sequence[str]:
        away = [f"mail server: {breaker.reason}"] if breaker.reason else []
        return [*away, *await database()]

    try:
        return await service.run(configured, name=GROUP, build=build, trouble=trouble)
    finally:
        await delivery.close()
        await engine.dispose()


def main() -> int:
    """Read settings and run. Next: `python -m consumers.email`."""
    logs.configure(GROUP)
    return service.run_to_the_end(run(settings.read(Settings)))
