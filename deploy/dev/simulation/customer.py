"""One customer at the shop and at Stripe's page, through what a browser uses: our HTTP API, and the forms of the pages.

Enters: a visit that was drawn. Leaves: the payment and session that it was about. Hindered when a page or an answer is not
what this card and this ending lead to. Next: support.py.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

import aiohttp

from deploy.dev.demo import html_form
from deploy.dev.demo.html_form import Form
from deploy.dev.demo.purchase import CARD
from deploy.dev.simulation.patience import Hindered, NotYet, Patience
from deploy.dev.simulation.persons import AtBank, Attempt, Ending, Visit
from deploy.dev.simulation.steps import Step, Tell
from deploy.dev.stripe import cards

Json = dict[str, Any]

# The page keeps a customer until the shop's webhook was answered, ten seconds at most.
TIMEOUT = aiohttp.ClientTimeout(total=30)
PASSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})
PAYS = frozenset({Ending.PAID, Ending.DEBIT_FAILED})
# What the shop's own page shows after each ending; whoever just left does not look.
SHOWN = {
    Ending.PAID: "succeeded",
    Ending.DEBIT_FAILED: "failed",
    Ending.GAVE_UP: "failed",
    Ending.EXPIRED: "failed",
}


@dataclass(frozen=True)
class Places:
    """Where the shop's API is, and where Stripe sends a customer back to."""

    api: str
    success_url: str
    cancel_url: str


@dataclass(frozen=True)
class Opened:
    """A checkout: the page to pay at, and what it is about."""

    url: str
    payment_id: str
    session_id: str


class End(Enum):
    """How an attempt ends."""

    PAID = auto()
    DECLINED = auto()
    LEFT = auto()
    OVER = auto()  # another tab was faster


def _typed(attempt: Attempt) -> dict[str, str]:
    """Return what the customer types into the page, and how they choose to pay where it asks."""
    if attempt.by_debit:
        return dict.fromkeys(CARD, "") | {"iban": attempt.number, "method": "sepa_debit"}
    return CARD | {"number": attempt.number, "cvc": cards.BY_NUMBER[attempt.number].cvc, "method": "card"}


class Customer:
    """Somebody with a bearer token of their own and a booking to pay for."""

    def __init__(
        self, http: aiohttp.ClientSession, places: Places, token: str, booking_id: str, patience: Patience, tell: Tell
    ) -> None:
        self._http = http
        self._places = places
        self._bearer = {"Authorization": f"Bearer {token}"}
        self._booking_id = booking_id
        self._patience = patience
        self._tell = tell

    async def visit(self, nth: int, visit: Visit) -> Opened:
        """Come for the nth time (from 0), and do what was drawn, in as many tabs at once."""
        ends = await asyncio.gather(*(self._tab(visit, nth, tab) for tab in range(visit.tabs)))
        opened = next((checkout for checkout, _ in ends if checkout is not None), None)
        if opened is None:
            raise Hindered("checkout", "no tab was given a page to pay at")
        went_through = sum(end is End.PAID for _, end in ends)
        if went_through != (visit.ending in PAYS):
            raise Hindered("payment", f"went through in {went_through} of {visit.tabs} tabs")
        self._tell(Step.PAID if went_through else Step.LEFT)
        return opened

    async def sees(self, payment_id: str, ending: Ending) -> None:
        """Wait until the shop shows what the ending leads to."""
        wanted = SHOWN.get(ending)

        async def look() -> None:
            async with self._http.get(f"{self._places.api}/payment/{payment_id}", headers=self._bearer) as answer:
                shown = await answer.json()
                if shown.get("status") != wanted:
                    raise NotYet(f"GET /payment/{payment_id} shows {answer.status} {shown.get('status') or shown.get('code')}")

        if wanted is not None:
            await self._patience.until(f"the page that says {wanted}", look)

    async def _tab(self, visit: Visit, nth: int, tab: int) -> tuple[Opened | None, End]:
        key = f"{self._booking_id}/{nth}.{tab}"
        opened = await self._patience.until("checkout", lambda: self._checkout(key, again=nth > 0, alone=visit.tabs == 1))
        if opened is None:
            return None, End.OVER
        end = End.LEFT
        if not visit.attempts:
            await self._page(opened.url)
        for at, attempt in enumerate(visit.attempts):
            end = await self._attempt(opened.url, attempt)
            is_last = at == len(visit.attempts) - 1
            self._expect(visit, attempt, end, is_last=is_last)
            if end is End.DECLINED:
                self._tell(Step.DECLINED)
        return opened, end

    def _expect(self, visit: Visit, attempt: Attempt, end: End, *, is_last: bool) -> None:
        if end is End.OVER and visit.tabs > 1:
            return
        wanted = End.LEFT if attempt.at_bank is AtBank.LEAVE else End.PAID if is_last and visit.ending in PAYS else End.DECLINED
        if end is not wanted:
            raise Hindered(f"card …{attempt.number[-4:]}", f"ended as {end.name.lower()}, not as {wanted.name.lower()}")

    async def _checkout(self, key: str, *, again: bool, alone: bool) -> Opened | None:
        """Create a checkout; None when there is nothing left to pay, which another tab may have done."""
        wish = {
            "booking_id": self._booking_id,
            "success_url": self._places.success_url,
            "cancel_url": self._places.cancel_url,
        }
        headers = self._bearer | {"Idempotency-Key": key}
        async with self._http.post(
            f"{self._places.api}/payment/checkout", json=wish, headers=headers, timeout=TIMEOUT
        ) as answer:
            said: Json = await answer.json()
            wait_seconds = float(answer.headers.get("Retry-After", "0"))
        code = said.get("code")
        if answer.status == HTTPStatus.CREATED or (not alone and code == "payment_already_exists" and said.get("url")):
            return Opened(said["url"], said["payment_id"], said["session_id"])
        if not alone and code in {"payment_already_exists", "booking_not_pending"}:
            return None
        # Whoever comes again may be faster than the webhook that says how the last visit ended.
        if answer.status in PASSING or (again and code == "payment_already_exists"):
            await asyncio.sleep(wait_seconds)
            raise NotYet(f"answered {answer.status} {code}")
        raise Hindered("checkout", f"answered {answer.status} {code}: {said.get('detail')}")

    async def _attempt(self, page_url: str, attempt: Attempt) -> End:
        page = await self._page(page_url)
        if page is None:
            return End.OVER
        status, location = await self._press(page_url, page, _typed(attempt))
        match status:
            case HTTPStatus.SEE_OTHER if location == self._places.success_url:
                return End.PAID
            case HTTPStatus.SEE_OTHER:
                return await self._bank(page_url, urljoin(page_url, location), attempt)
            case HTTPStatus.PAYMENT_REQUIRED:
                return End.DECLINED
            case HTTPStatus.CONFLICT:
                return End.OVER
            case _:
                raise Hindered("hosted page", f"answered the card with {status}")

    async def _bank(self, page_url: str, bank_url: str, attempt: Attempt) -> End:
        page = await self._page(bank_url)
        if attempt.at_bank is AtBank.LEAVE:
            return End.LEFT
        if attempt.at_bank is None:
            raise Hindered("hosted page", f"sent to {bank_url} with a card that asks for nothing")
        # A question that another tab has answered leads back to the checkout at once, which then has no form any more.
        if page is not None and urljoin(bank_url, page.action) == bank_url:
            _, location = await self._press(bank_url, page, {"answer": attempt.at_bank.value})
            if location == self._places.success_url:
                return End.PAID
        return End.OVER if await self._page(page_url) is None else End.DECLINED

    async def _page(self, url: str) -> Form | None:
        """Return the form of a page, None when it has none: there is nothing left to do there."""

        async def look() -> Form | None:
            async with self._http.get(url, timeout=TIMEOUT) as answer:
                if not answer.ok:
                    raise NotYet(f"answered {answer.status}")
                return html_form.read(await answer.text())

        return await self._patience.until(f"page {url}", look)

    async def _press(self, page_url: str, page: Form, typed: dict[str, str]) -> tuple[int, str]:
        """Send a form once; a customer does not press again when nobody answers."""
        sent = page.fields | {name: value for name, value in typed.items() if name in page.fields or name == "answer"}
        try:
            async with self._http.post(
                urljoin(page_url, page.action), data=sent, allow_redirects=False, timeout=TIMEOUT
            ) as answer:
                return answer.status, answer.headers.get("Location", "")
        except (aiohttp.ClientError, TimeoutError) as trouble:
            raise Hindered("hosted page", f"no answer: {type(trouble).__name__} {trouble}") from trouble
