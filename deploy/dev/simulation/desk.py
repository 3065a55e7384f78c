"""Stripe's API over plain HTTP, as the dashboard of a support person uses it: patient, and never twice.

Enters: paths and words. Leaves: Stripe's objects. A call that fails is repeated under the same key until it is answered;
Hindered when Stripe refuses, or when patience ends. API: https://docs.stripe.com/api/idempotent_requests.
"""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from deploy.dev.simulation.patience import Hindered, NotYet, Patience

Json = dict[str, Any]

PAGE = 100  # Stripe's largest
TIMEOUT = aiohttp.ClientTimeout(total=10)
PASSING = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})


class Unknown(Hindered):
    """Under this idempotency key Stripe only repeats an error: whether it was done has to be looked up."""


class Desk:
    """One key at one Stripe."""

    def __init__(self, http: aiohttp.ClientSession, base: str, key: str, patience: Patience) -> None:
        self._http = http
        self._base = base
        self._headers = {"Authorization": f"Bearer {key}"}
        self._patience = patience

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return what is there."""
        return await self._patience.until(f"GET {path}", lambda: self._call("GET", path, query, None, {}))

    async def post(self, path: str, words: Mapping[str, str], *, key: str) -> Json:
        """Do something once, however often the call is repeated; Unknown when this key will never have an answer."""
        headers = {"Idempotency-Key": key}
        return await self._patience.until(f"POST {path}", lambda: self._call("POST", path, None, words, headers))

    async def every(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Json]:
        """Yield all objects of a list, newest first."""
        cursor: dict[str, str] = {}
        while True:
            page = await self.get(path, {**query, **cursor, "limit": str(PAGE)})
            for one in page["data"]:
                yield one
            if not page["has_more"]:
                return
            cursor = {"starting_after": page["data"][-1]["id"]}

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        words: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> Json:
        async with self._http.request(
            method,
            f"{self._base}{path}",
            params=query,
            data=words,
            headers=self._headers | dict(headers),
            timeout=TIMEOUT,
        ) as answer:
            body: Json = await answer.json()
            if answer.ok:
                return body
            said = f"{answer.status} {body['error']['message']}"
            if answer.headers.get("Idempotent-Replayed") == "true" and answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Unknown(f"{method} {path}", f"whether it was done is not told: {said}")
            if answer.status in PASSING or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise NotYet(said)
            raise Hindered(f"{method} {path}", f"Stripe refuses: {said}")
