"""Group commit: what is asked for while a transaction runs is done by the next one, all of it in one transaction.

Enters: one caller's wish at a time. Leaves: each caller's own answer. A commit costs as much for one wish as for many, so all
callers who came meanwhile share one. Next: clerk.py, which uses one for each mark that every letter needs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.db.data_errors import is_data_error

# About as long as a commit takes: without this wait, conversations that end one after another would each pay for a commit.
LINGER_SECONDS = 0.002

Wish = TypeVar("Wish")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Wish, Answer]):
    """`work` carries out several wishes in one transaction, and returns the answers in the order of the wishes."""

    def __init__(self, work: Callable[[Sequence[Wish]], Awaitable[Sequence[Answer]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Wish, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, wish: Wish) -> Answer:
        """Return the answer to this wish; raises what the work raised.

        An error of data is raised only to the caller whose wish meets it, any other to all who shared the transaction.
        """
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
