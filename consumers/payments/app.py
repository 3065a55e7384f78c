"""Wiring of the payments consumer: `stripe.events` in, `payments.events` out, bound to handlers.py, and housekeeping.

Next: handlers.py.
"""

from consumers.payments.handlers import Payments
from consumers.payments.housekeeping import keep_house
from shared import ending, environment, logs, topics
from shared.kafka import service

PROCESS = "payments"


class Settings(service.DatabaseConsumerSettings):
    """What the payments consumer reads from the environment."""

    health_port: int = 8011


async def run(configured: Settings) -> int:
    """Consume until told to stop; return the process's exit status."""
    return await service.run_database_consumer(
        configured,
        name=PROCESS,
        consumer=Payments(),
        source=topics.STRIPE_EVENTS,
        target=topics.PAYMENTS_EVENTS,
        refusals=topics.STRIPE_EVENTS_DLT,
        background=keep_house,
    )


def main() -> int:
    """Read settings and run; return the exit status of `python -m consumers.payments`."""
    logs.configure(PROCESS)
    return ending.run_to_the_end(run(environment.read(Settings)))
