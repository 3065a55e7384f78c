"""Wiring of the payments consumer: `stripe.events` in, `payments.events` out, bound to handlers.py.

Next in the walk: handlers.py.
"""

import asyncio
from collections.abc import Sequence

from consumers.payments.handlers import Payments
from shared import logs, settings, topics
from shared.db import engine as engines
from shared.db import health
from shared.kafka import service
from shared.kafka.batch import Batches
from shared.kafka.broker import Subscription
from shared.kafka.producer import Producer

GROUP = "payments"


class Settings(service.ServiceSettings, settings.Database):
    """What the payments consumer reads from the environment."""

    health_port: int = 8011


async def run(configured: Settings) -> int:
    """Consume until told to stop; return the process's exit status."""
    engine = engines.create(configured, application=GROUP)

    def build(producer: Producer, stopping: asyncio.Event) -> Sequence[Subscription]:
        batches = Batches(
            Payments(),
            engine=engine,
            producer=producer,
            group=configured.topic_prefix + GROUP,
            target=topics.PAYMENTS_EVENTS.named(configured.topic_prefix),
            refusals=topics.STRIPE_EVENTS_DLT.named(configured.topic_prefix),
        )
        return [Subscription(topics.STRIPE_EVENTS, GROUP, batches.handle, configured, stopping)]

    try:
        return await service.run(configured, name=GROUP, build=build, trouble=health.trouble(engine))
    finally:
        await engine.dispose()


def main() -> int:
    """Read settings and run. Next: `python -m consumers.payments`."""
    logs.configure(GROUP)
    return service.run_to_the_end(run(settings.read(Settings)))
