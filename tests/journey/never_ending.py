"""The door or a consumer as it is, but for a health port that is never given back: nothing ends by itself any more.

PROCESS in the environment says which of the two. With BROKEN it can also publish nothing more, as soon as it is up.
"""

import asyncio
import contextlib
import os
import sys

from consumers.bookings import app as consumer
from ingress import serving as door
from ingress.publisher import Publisher
from shared import ending
from shared.kafka import broker, health, producer


@contextlib.asynccontextmanager
async def never_over(*_arguments, **_options):
    yield None
    await asyncio.Event().wait()


class Dead:
    is_dead = True


@contextlib.asynccontextmanager
async def dead(*_arguments, **_options):
    yield Dead()


async def at_once(_consuming):
    pass


if __name__ == "__main__":
    health.served = never_over
    door.REACH_SECONDS_MAX = 600
    ending.STOP_SECONDS_MAX = ending.LIVENESS_EVERY_SECONDS = 0.2
    if "BROKEN" in os.environ:
        producer.opened, broker.start = (dead if os.environ["PROCESS"] == "consumer" else producer.opened), at_once
        Publisher.fault = "the producer's sender task ended"
    sys.exit({"door": door, "consumer": consumer}[os.environ["PROCESS"]].main())
