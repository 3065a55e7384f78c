"""The door as it is; from SIGUSR1 on, an error that aiokafka does not expect ends its sender task at the next record."""

import asyncio
import contextlib
import signal
import sys

from ingress import serving as door
from shared.kafka import producer

opened = producer.opened


@contextlib.asynccontextmanager
async def frail(*arguments, **options):
    async with opened(*arguments, **options) as made:
        waiting = made._client._message_accumulator
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, setattr, waiting, "drain_by_nodes", None)
        yield made


if __name__ == "__main__":
    producer.opened = frail
    door.LIVENESS_EVERY_SECONDS = 0.2
    sys.exit(door.main())
