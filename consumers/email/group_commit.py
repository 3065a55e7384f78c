"""Group commit: calls that come while a transaction runs share the next transaction.

Enters: one caller's request at a time. Leaves: each caller's own result. A commit costs as much for one request as for many, so
all callers that came meanwhile share one. Next: ledger_writer.py, which has one for each of the three writes that every letter
needs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.db.data_errors import is_data_error

# About as long as a commit takes: without this wait, conversations that end one after another would each need a commit.
LINGER_SECONDS = 0.002

Request = TypeVar("Request")
Result = TypeVar("Result")


class GroupCommit(Generic[Request, Result]):
    """`work` carries out several requests in one transaction, and returns the results in the order of the requests."""

    def __init__(self, work: Callable[[Sequence[Request]], Awaitable[Sequence[Result]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Request, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Result:
        """Return the result of this request; raises what `work` raised.

        An error of data is raised only to the caller whose request causes it, any other to all callers that shared the
        transaction.
        """
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, result))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._serve())
        return await result

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(LINGER_SECONDS)
            served, self._waiting = self._waiting, []
            await self._do(served)

    async def _do(self, served: Sequence[tuple[Request, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._work([request for request, _ in served])
            answered = list(zip(served, results, strict=True))
        except Exception as error:  # noqa: BLE001 - it is raised to the callers
            if is_data_error(error) and len(served) > 1:
                for one in served:
                    await self._do([one])
                return
            for _, result in served:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), given in answered:
            if not result.done():
                result.set_result(given)
