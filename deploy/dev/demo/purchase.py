"""One purchase, made and watched through what anybody may use: HTTP, the form of a page, topics, the mailbox's list.

Enters: the variables of a running box and a client's token. Leaves: each hop as it is seen, with its time; Missing for the
first that is not. Next: story.py tells it.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from deploy.dev.demo import html_form
from deploy.dev.demo.html_form import Form
from deploy.dev.seed import store
from deploy.dev.seed.people import CLIENT, COACH, Person
from deploy.dev.services import kafka_settings, tail
from deploy.dev.services.tail import Json, Tail
from shared import clock, settings, topics

T = TypeVar("T")

CARD = {"number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}
# Which of Stripe's events say that the money came; either is enough, and they come in any order.
MONEY_CAME = frozenset({"payment_intent.succeeded", "checkout.session.completed"})
LOOK_EVERY_SECONDS = 0.05
# What other processes may do to us; all else is a fault of ours.
TROUBLE = (aiohttp.ClientError, KafkaError, *store.TROUBLE)


class Hop(Enum):
    """The hops in the order in which a purchase makes them, and the piece of the box whose log tells about each."""

    BOOKED = ("pending booking", "database")
    CHECKOUT = ("checkout", "ingress")
    PAGE = ("hosted page", "sandbox")
    WEBHOOK = ("webhook accepted", "ingress")
    PAYMENT = ("payment succeeded", "payments")
    CONFIRMED = ("booking confirmed", "bookings")
    CLIENT_LETTER = ("letter to client", "email")
    COACH_LETTER = ("letter to coach", "email")

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.value[0]

    @property
    def piece(self) -> str:
        """Where to look when it is missing."""
        return self.value[1]


@dataclass(frozen=True)
class Seen:
    """A hop that was seen: so many milliseconds after the purchase began, and what it was."""

    hop: Hop
    after_ms: int
    what: str


class Missing(Exception):
    """A hop that was not seen, why, and the piece of the box whose log tells more."""

    def __init__(self, hop: Hop, why: str, piece: str | None = None) -> None:
        super().__init__(f"{hop.title}: {why}")
        self.hop = hop
        self.why = why
        self.piece = piece or hop.piece


class Purchase:
    """A fresh booking of the client, paid by card. `patience_seconds` is how long each hop may take."""

    def __init__(self, variables: Mapping[str, str], token: str, *, patience_seconds: float) -> None:
        self.booking_id = self.payment_id = ""
        self._api = variables["CB_DEV_INGRESS_URL"]
        self._sandbox = variables["CB_DEV_SANDBOX_URL"]
        self._mailbox = variables["CB_DEV_MAILBOX_URL"]
        self._kafka = kafka_settings.of(variables)
        self._database = settings.Database(database_url=SecretStr(variables["DATABASE_URL"]))
        self._bearer = {"Authorization": f"Bearer {token}"}
        self._patience_seconds = patience_seconds
        self._began_at, self._began_on = clock.monotonic(), clock.now()

    async def make(self, tell: Callable[[Seen], None]) -> None:
        """Book, pay, and tell each hop once it is seen; Missing for the first that is not."""
        async with contextlib.AsyncExitStack() as stack:
            opening = stack.enter_async_context(tail.opened(self._kafka, *(topic.name for topic in topics.ALL)))
            watched = await self._in_time(Hop.BOOKED, opening, piece="broker")
            http = await stack.enter_async_context(aiohttp.ClientSession())
            last_letter = await self._in_time(Hop.BOOKED, letters_before(http, self._mailbox), piece="mailbox")
            booking_id = await self._in_time(Hop.BOOKED, store.a_new_booking(self._database))
            self.booking_id = str(booking_id)
            self._began_at, self._began_on = clock.monotonic(), clock.now()
            tell(self._seen(Hop.BOOKED, f"{CLIENT.first_name} with {COACH.first_name}, {store.SESSION_MINUTES} minutes"))

            watches: dict[Hop, Coroutine[Any, Any, Seen]] = {
                Hop.WEBHOOK: self._webhook(http, watched),
                Hop.PAYMENT: self._payment(http, watched),
                Hop.CONFIRMED: self._confirmed(booking_id, watched),
                Hop.CLIENT_LETTER: self._letter(http, Hop.CLIENT_LETTER, CLIENT, last_letter),
                Hop.COACH_LETTER: self._letter(http, Hop.COACH_LETTER, COACH, last_letter),
            }
            watching = {hop: asyncio.create_task(watch) for hop, watch in watches.items()}
            stack.push_async_callback(_end, *watching.values())

            page_url, seen = await self._in_time(Hop.CHECKOUT, self._checkout(http))
            tell(seen)
            filled = await self._in_time(Hop.PAGE, self._open_page(http, page_url))
            tell(self._seen(Hop.PAGE, f"“{filled.heading}”, card {CARD['number']}"))
            # The page keeps the customer until the webhook was answered: beside the hops, not before them.
            paying = asyncio.create_task(self._pay(http, page_url, filled))
            stack.push_async_callback(_end, paying)
            for hop, task in watching.items():
                tell(await self._in_time(hop, _unless_failed(task, paying)))
            await self._in_time(Hop.PAGE, paying)

    async def _in_time(self, hop: Hop, call: Awaitable[T], *, piece: str | None = None) -> T:
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await call
        except TimeoutError:
            raise Missing(hop, f"not seen within {self._patience_seconds:g} s", piece) from None
        except TROUBLE as error:
            raise Missing(hop, f"{type(error).__name__}: {error}", piece) from error

    async def _checkout(self, http: aiohttp.ClientSession) -> tuple[str, Seen]:
        wish = {"booking_id": self.booking_id, "success_url": f"{self._mailbox}/", "cancel_url": f"{self._api}/docs"}
        async with http.post(f"{self._api}/payment/checkout", json=wish, headers=self._bearer) as answer:
            said = await _json(answer)
        if answer.status != HTTPStatus.CREATED:
            raise Missing(Hop.CHECKOUT, f"answered {answer.status} {said.get('code')}: {said.get('detail')}")
        self.payment_id = said["payment_id"]
        return said["url"], self._seen(Hop.CHECKOUT, f"POST /payment/checkout → 201, {said['amount']} {said['currency']}")

    async def _open_page(self, http: aiohttp.ClientSession, page_url: str) -> Form:
        async with http.get(page_url) as answer:
            page = html_form.read(await answer.text())
        if answer.status != HTTPStatus.OK:
            raise Missing(Hop.PAGE, f"{page_url} answered {answer.status}")
        if page is None or page.method != "post" or not page.fields.keys() >= CARD.keys():
            raise Missing(Hop.PAGE, f"{page_url} has no form for a card")
        return page

    async def _pay(self, http: aiohttp.ClientSession, page_url: str, filled: Form) -> None:
        sent = filled.fields | CARD
        async with http.post(urljoin(page_url, filled.action), data=sent, allow_redirects=False) as answer:
            if answer.status != HTTPStatus.SEE_OTHER:
                raise Missing(Hop.PAGE, f"the card was answered {answer.status}")
            if answer.headers["Location"] != f"{self._mailbox}/":
                raise Missing(Hop.PAGE, f"the customer was sent to {answer.headers['Location']}")

    async def _webhook(self, http: aiohttp.ClientSession, watched: Tail) -> Seen:
        record = await watched.first(topics.STRIPE_EVENTS.name, self._says_that_money_came)

        def accepted(listed: Json) -> Json | None:
            mine = (one for one in listed["deliveries"] if one["event_id"] == record.value["id"])
            return next((one["attempts"][-1] for one in mine if one["state"] == "delivered"), None)

        attempt = await _until(http, f"{self._sandbox}/_sandbox/deliveries", accepted)
        answered_on = float(attempt["at"]) + float(attempt["latency_ms"]) / 1000
        what = f"{record.value['type']}, signed → {attempt['status']}"
        return Seen(Hop.WEBHOOK, round((answered_on - self._began_on.timestamp()) * 1000), what)

    async def _payment(self, http: aiohttp.ClientSession, watched: Tail) -> Seen:
        record = await watched.first(topics.PAYMENTS_EVENTS.name, lambda event: self._is_ours(event, "succeeded"))
        url = f"{self._api}/payment/{record.value['subject']}"
        payment = await _until(
            http, url, lambda shown: shown if shown.get("status") == "succeeded" else None, headers=self._bearer
        )
        return self._seen(Hop.PAYMENT, f"{payment['amount']} {payment['currency']}, {record.place}", record.seen_at)

    async def _confirmed(self, booking_id: uuid.UUID, watched: Tail) -> Seen:
        record = await watched.first(topics.BOOKINGS_EVENTS.name, lambda event: self._is_ours(event, "confirmed"))
        while await store.booking_status(self._database, booking_id) != "confirmed":  # noqa: ASYNC110 - of another process
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        return self._seen(Hop.CONFIRMED, f"row and {record.place}", record.seen_at)

    async def _letter(self, http: aiohttp.ClientSession, hop: Hop, reader: Person, after: str) -> Seen:
        def written(letters: list[Json]) -> Json | None:
            mine = (one for one in letters if one["to"] == [reader.email])
            return next((one for one in mine if self.booking_id in (one["text"] or "")), None)

        letter = await _until(http, f"{self._mailbox}/api/letters?after={after}", written)
        after_ms = (datetime.fromisoformat(letter["received_at"]) - self._began_on).total_seconds() * 1000
        return Seen(hop, round(after_ms), letter["subject"])

    def _says_that_money_came(self, event: Json) -> bool:
        return event.get("type") in MONEY_CAME and _at(event, "data", "object", "metadata", "booking_id") == self.booking_id

    def _is_ours(self, event: Json, status: str) -> bool:
        return bool(_at(event, "data", "booking_id") == self.booking_id and _at(event, "data", "status") == status)

    def _seen(self, hop: Hop, what: str, seen_at: float | None = None) -> Seen:
        moment = clock.monotonic() if seen_at is None else seen_at
        return Seen(hop, round((moment - self._began_at) * 1000), what)


async def letters_before(http: aiohttp.ClientSession, mailbox: str) -> str:
    """Return an id below that of every later letter: the number of letters so far, since their ids count up.

    No letter is read for this: a simulation leaves thousands.
    """
    async with http.get(f"{mailbox}/api/letters", params={"after": "~"}) as answer:
        return f"{int(answer.headers['X-Total-Count']):08d}"


def _at(value: Any, *names: str) -> Any:
    """Return what lies at that path, or None: other writers' records may have any shape."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


async def _until(
    http: aiohttp.ClientSession,
    url: str,
    found: Callable[[Any], Json | None],
    headers: Mapping[str, str] | None = None,
) -> Json:
    """Ask repeatedly, also while there is no answer, until `found` finds something in the answer."""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(url, headers=headers) as answer:
                if answer.ok and (wanted := found(await _json(answer))) is not None:
                    return wanted
        await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _unless_failed(task: "asyncio.Task[T]", paying: "asyncio.Task[None]") -> T:
    """Return the task's result; raise at once what went wrong with paying."""
    waiting: set[asyncio.Task[Any]] = {task, paying}
    while not task.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if paying in done:
            paying.result()
    return task.result()


async def _end(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _json(answer: aiohttp.ClientResponse) -> Any:
    # Numbers stay as they were written: an amount is 75.00 and not 75.0.
    return json.loads(await answer.text(), parse_float=str)
