"""Wiring of the bookings consumer: `payments.events` in, `bookings.events` out, bound to handlers.py.

Next: handlers.py.
"""

from consumers.bookings.handlers import Bookings
from shared import ending, environment, logs, topics
from shared.kafka import service

PROCESS = "bookings"


class Settings(service.DatabaseConsumerSettings):
    """What the bookings consumer reads from the environment."""

    health_port: int = 8012


async def run(configured: Settings) -> int:
    """Consume until told to stop; return the process's exit status."""
    return await service.run_database_consumer(
        configured,
        name=PROCESS,
        consumer=Bookings(),
        source=topics.PAYMENTS_EVENTS,
        target=topics.BOOKINGS_EVENTS,
        refusals=topics.PAYMENTS_EVENTS_DLT,
    )


def main() -> int:
    """Read settings and run; return the exit status of `python -m consumers.bookings`."""
    logs.configure(PROCESS)
    return ending.run_to_the_end(run(environment.read(Settings)))
