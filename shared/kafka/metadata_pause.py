"""Makes aiokafka pause between two requests for metadata while a partition has no leader.

By itself aiokafka repeats them as fast as they are answered, a thousand times a second: while something is to be sent to or
fetched from a topic that is gone or a partition without a leader, and while no broker answers at all. Enters: aiokafka's
client. Leaves: a wrapper of it, for its sender and its fetcher. Next: producer.py, rewinding.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.client import AIOKafkaClient

LEADERLESS_PAUSE_SECONDS = 0.2


class PausingClient:
    """aiokafka's client, whose metadata updates end LEADERLESS_PAUSE_SECONDS after the answer, or once `more_came` is done.

    aiokafka's sender waits for this update instead of for new records, and needs `more_came` to notice these at once. Its
    fetcher waits for everything at the same time, and needs none.
    """

    def __init__(self, client: AIOKafkaClient, more_came: "Callable[[], asyncio.Future[None]] | None" = None) -> None:
        self._client = client
        self._more_came = more_came
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def force_metadata_update(self) -> "asyncio.Future[None]":
        """Request metadata; the future that is returned is done a moment after the answer."""
        done: asyncio.Future[None] = self._loop.create_future()

        def finish(*_: object) -> None:
            if not done.done():
                done.set_result(None)

        def pause(_: object) -> None:
            self._loop.call_later(LEADERLESS_PAUSE_SECONDS, finish)
            if self._more_came is not None:
                self._more_came().add_done_callback(finish)

        self._client.force_metadata_update().add_done_callback(pause)
        return done
