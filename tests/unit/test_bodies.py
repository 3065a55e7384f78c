"""Bodies that arrive slowly, on the event loop of the process. No sockets."""

import asyncio
import time
from types import SimpleNamespace

import uvloop

from ingress import bodies, problems


class Arriving:
    """A request whose body comes as it is put, until None."""

    def __init__(self, *parts):
        self.content = SimpleNamespace(is_eof=lambda: False, iter_any=self._parts)
        self._waiting = asyncio.Queue()
        for part in parts:
            self._waiting.put_nowait(part)

    def end(self):
        self._waiting.put_nowait(None)

    async def _parts(self):
        while (part := await self._waiting.get()) is not None:
            yield part


async def test_who_sends_a_head_and_no_byte_of_its_body_is_counted_too():
    """Thousands of them would fill the memory with their heads alone; a few take nobody's time."""
    silent = [Arriving(), Arriving()]
    reading = [asyncio.create_task(bodies.read(one, bytes_max=1000)) for one in silent]
    await asyncio.sleep(0)
    assert bodies.ARRIVING.bytes == 2 * bodies.REQUEST_BYTES

    for one in silent:
        one.end()
    assert await asyncio.gather(*reading) == [b"", b""]
    assert bodies.ARRIVING.bytes == 0


def test_a_body_whose_time_is_just_over_does_no_harm_to_another(monkeypatch):
    """The budget is spent in the very turn in which a slow one's time ends: the honest one is read, the slow are told."""
    monkeypatch.setattr(bodies, "READ_SECONDS_MAX", 0.05)
    monkeypatch.setattr(bodies, "ARRIVING_BYTES_MAX", 2 * bodies.REQUEST_BYTES)

    async def one_turn():
        slow = [asyncio.create_task(bodies.read(Arriving(), bytes_max=1000)) for _ in range(2)]
        await asyncio.sleep(0)
        # The loop is busy until their time is over: it ends them, and goes on with the honest one before they hear of it.
        time.sleep(0.06)  # noqa: ASYNC251 - what is busy is the point
        honest = asyncio.create_task(bodies.read(Arriving(b"x" * 100, None), bytes_max=1000))
        return await honest, await asyncio.gather(*slow)

    read, told = uvloop.run(one_turn())

    assert read == b"x" * 100
    assert told == [problems.BODY_TOO_SLOW] * 2
    assert bodies.ARRIVING.bytes == 0
