"""How often aiokafka asks who leads a partition that nobody leads.

Left to itself it asks as fast as it is answered, a thousand times a second: as long as something is to go to a topic that is
gone or to come from it, or to a partition without a leader, and also while no broker is there to be asked. Enters: aiokafka's
client. Leaves: the same, as its sender and its fetcher see it. Next: producer.py, rewinding.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.client import AIOKafkaClient

LEADERLESS_PAUSE_SECONDS = 0.2


class Patient:
    """aiokafka's client, which lets it be known a moment after the answer who leads; `more_came` gives what ends that pause.

    Without `more_came` nothing ends it: whoever waits for it waits for everything else, too, and hears of that at once.
    """

    def __init__(self, client: AIOKafkaClient, more_came: "Callable[[], asyncio.Future[None]] | None" = None) -> None:
        self._client = client
        self._more_came = more_came
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def force_metadata_update(self) -> "asyncio.Future[None]":
        """Ask, and let it be known a moment after the answer."""
        told: asyncio.Future[None] = self._loop.create_future()

        def tell(*_: object) -> None:
            if not told.done():
                told.set_result(None)

        def pause(_: object) -> None:
            self._loop.call_later(LEADERLESS_PAUSE_SECONDS, tell)
            if self._more_came is not None:
                self._more_came().add_done_callback(tell)

        self._client.force_metadata_update().add_done_callback(pause)
        return told
