"""Many callers, one transaction: what is asked while a transaction runs is done together in the next one.

Enters: one caller's wish at a time. Leaves: each caller's own answer. All who came meanwhile share the price of one commit,
which is as high for one of them as for all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.db.data_errors import is_data_error

# A commit costs about as long; without it conversations that end one after another would each pay for their own.
LINGER_SECONDS = 0.002

Wish = TypeVar("Wish")
Answer = TypeVar("Answer")


class Together(Generic[Wish, Answer]):
    """`work` does what several wish in one transaction, and returns their answers in their order."""

    def __init__(self, work: Callable[[Sequence[Wish]], Awaitable[Sequence[Answer]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Wish, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, wish: Wish) -> Answer:
        """Have it done and return the answer; raises what the work raised, for all who shared it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, answer))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(LINGER_SECONDS)
            served, self._waiting = self._waiting, []
            await self._do(served)

    async def _do(self, served: Sequence[tuple[Wish, "asyncio.Future[Answer]"]]) -> None:
        try:
            answers = await self._work([wish for wish, _ in served])
        except Exception as error:  # noqa: BLE001 - it is raised, by those who asked
            if is_data_error(error) and len(served) > 1:
                for one in served:
                    await self._do([one])
                return
            for _, answer in served:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), given in zip(served, answers, strict=True):
            if not answer.done():
                answer.set_result(given)
