"""The only outgoing Stripe client: one method per call, answers as values.

Enters: the parameters of one call. Leaves: what Stripe holds now, or one of the failures below; no exception of the library, of
aiohttp or of a timeout leaves this file. Facts about stripe 16.1: StripeClient makes one attempt unless configured, a timeout
while a body is read comes as the builtin TimeoutError and is not retried, a body cut short as aiohttp's own error; an error's
text and body may hold what a customer typed, so that only its code and request id are logged. API:
https://docs.stripe.com/api/checkout/sessions, https://docs.stripe.com/api/idempotent_requests.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import aiohttp
import msgspec
import stripe

from shared import clock, logs, metrics, settings
from shared.stripe_events import API_VERSION

if TYPE_CHECKING:
    from stripe.params import EventListParams
    from stripe.params.checkout import SessionCreateParams

log = logs.get(__name__)

TIMEOUT_SECONDS = 10  # for each attempt; the library's own 80 would outlast every browser
NETWORK_RETRIES_MAX = 2  # of connection errors, 409 and 5xx, by the library, with the same idempotency key
EVENTS_AT_ONCE_MAX = 100  # https://docs.stripe.com/api/pagination
# A complete session is unpaid while a delayed method is under way: https://docs.stripe.com/api/checkout/sessions/object
NOTHING_OWED = frozenset({"paid", "no_payment_required"})
KEY_IN_USE = "idempotency_key_in_use"  # https://docs.stripe.com/error-codes: another call holds the key now


class SessionStatus(StrEnum):
    """The state of a session; only an open one can be paid, or expired by us."""

    OPEN = "open"
    COMPLETE = "complete"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """The request to Stripe for one payment; the same request under the same key makes the same session.

    `amount_minor` in minor units of `currency` (ISO code), `expires_at` in whole seconds, 30 minutes to 24 hours ahead.
    """

    payment_id: UUID
    booking_id: UUID
    amount_minor: int
    currency: str
    item_name: str
    customer_email: str
    success_url: str
    cancel_url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A checkout session as Stripe holds it; `url` is None once nobody can pay there any more.

    `is_paid`: Stripe waits for no money; a session can be complete without, while a delayed method is under way.
    """

    id: str
    status: SessionStatus
    url: str | None
    expires_at: datetime
    is_paid: bool = False


@dataclass(frozen=True, slots=True)
class NoSuchSession:
    """Stripe has no session of this id, under this account and mode."""


@dataclass(frozen=True, slots=True)
class KeySpent:
    """The idempotency key will always return something else: other parameters, or a stored failure."""

    code: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Stripe understood the call and refused it; repeating it repeats the answer. `code` is Stripe's."""

    code: str


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """The secret key is wrong or lacks a right; Stripe did not process the call, and may once the key is corrected."""

    code: str


@dataclass(frozen=True, slots=True)
class Away:
    """No usable answer: unreachable, too slow, overloaded, or busy with the same key. The effect may have happened."""

    code: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook endpoint of the account; an `api_version` of None is the account's default, `*` in `events` is every kind."""

    id: str
    url: str
    enabled: bool
    events: tuple[str, ...]
    api_version: str | None
    livemode: bool


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event that Stripe keeps; `body` is its JSON as the Events API renders it, without a signature."""

    id: str
    type: str
    created: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class EventPage:
    """Up to a hundred events, newest first; after the last of them older ones follow when `has_more`."""

    events: tuple[ListedEvent, ...]
    has_more: bool


Failure = NoSuchSession | KeySpent | Refused | NotAllowed | Away
Answer = Session | Failure
Result = TypeVar("Result")
Reply = TypeVar("Reply")


class StripeApi:
    """One client for one event loop; make it inside the loop and `close` it there."""

    def __init__(self, stripe_settings: settings.StripeApi) -> None:
        # Off: it would write an id into the home folder and send the last call's duration along.
        stripe.enable_telemetry = False
        self._transport = stripe.AIOHTTPClient(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        base = stripe_settings.stripe_api_base
        self._client = stripe.StripeClient(
            stripe_settings.stripe_secret_key.get_secret_value(),
            http_client=self._transport,
            max_network_retries=NETWORK_RETRIES_MAX,
            stripe_version=API_VERSION,
            base_addresses={"api": base.rstrip("/")} if base else {},
        )

    async def close(self) -> None:
        """Close the connections; calls that are under way end as `Away`."""
        await self._transport.close_async()  # type: ignore[no-untyped-call]  # the library gives it no types

    async def create_session(self, request: SessionRequest, *, idempotency_key: str) -> Answer:
        """Make the hosted page for one payment, or return the session that this key made before.

        A replayed answer shows the session as it was when it was made.
        """
        call = self._client.v1.checkout.sessions.create_async(_parameters(request), {"idempotency_key": idempotency_key})
        return await _answer("create_session", call, _session)

    async def retrieve_session(self, session_id: str) -> Answer:
        """Ask what became of a session."""
        return await _answer("retrieve_session", self._client.v1.checkout.sessions.retrieve_async(session_id), _session)

    async def expire_session(self, session_id: str) -> Answer:
        """End an open session, so that nobody can pay there; `Refused` when it is complete or expired already."""
        return await _answer("expire_session", self._client.v1.checkout.sessions.expire_async(session_id), _session)

    async def webhook_endpoints(self) -> tuple[Endpoint, ...] | Failure:
        """Ask which endpoints the account has in the key's mode; Stripe allows 16, so that one page holds them all."""
        call = self._client.v1.webhook_endpoints.list_async({"limit": 100})
        return await _answer("list_webhook_endpoints", call, _endpoints)

    async def events(
        self, kinds: Collection[str], *, since: datetime, until: datetime, after: str | None = None
    ) -> EventPage | Failure:
        """Ask for events of these kinds (20 at most) that were made in this time, 30 days ago at most, and before `after`.

        https://docs.stripe.com/api/events/list
        """
        asked: EventListParams = {
            "types": list(kinds),
            "created": {"gte": int(since.timestamp()), "lte": int(until.timestamp())},
            "limit": EVENTS_AT_ONCE_MAX,
        }
        if after is not None:
            asked["starting_after"] = after
        return await _answer("list_events", self._client.v1.events.list_async(asked), _events)

    async def account_id(self) -> str | Failure:
        """Ask which account our key belongs to."""
        return await _answer("retrieve_account", self._client.v1.accounts.retrieve_current_async(), lambda account: account.id)


def _parameters(request: SessionRequest) -> "SessionCreateParams":
    ours = {"payment_id": str(request.payment_id), "booking_id": str(request.booking_id)}
    return {
        "mode": "payment",
        "client_reference_id": str(request.payment_id),
        "customer_email": request.customer_email,
        "success_url": request.success_url,
        "cancel_url": request.cancel_url,
        "expires_at": int(request.expires_at.timestamp()),
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.currency.lower(),
                    "unit_amount": request.amount_minor,
                    "product_data": {"name": request.item_name},
                },
            }
        ],
        "metadata": ours,
        # Stripe copies a session's metadata nowhere: without these a declined card could not be matched to any payment.
        "payment_intent_data": {"metadata": ours},
    }


async def _answer(name: str, call: Awaitable[Reply], read: Callable[[Reply], Result]) -> Result | Failure:
    """Await one call, counted and timed; every failure becomes a value, logged with its code and request id alone.

    `read` takes what we need from the library's object; it raises AttributeError, TypeError, ValueError or MsgspecError for
    another shape.
    """
    started = clock.monotonic()
    answer: Result | Failure
    try:
        answer = read(await call)
    except stripe.StripeError as error:
        answer = _failure(error)
        log.warning("stripe.failed", step=name, outcome=type(answer).__name__, code=_code(error), request_id=error.request_id)
    except (TimeoutError, aiohttp.ClientError) as error:
        answer = Away(type(error).__name__)
        log.warning("stripe.failed", step=name, outcome="Away", code=answer.code)
    except (AttributeError, TypeError, ValueError, msgspec.MsgspecError) as error:
        answer = Away("answer_unreadable")
        log.warning("stripe.failed", step=name, outcome="Away", code=answer.code, error=type(error).__name__)
    metrics.stripe_call_seconds.labels(call=name).observe(clock.monotonic() - started)
    metrics.stripe_calls.labels(call=name, outcome=type(answer).__name__).inc()
    return answer


def _failure(error: stripe.StripeError) -> Failure:
    """Sort an error by what helps against it; stripe/_api_requestor.py has the pairs of status and class."""
    code = _code(error)
    match error:
        case stripe.IdempotencyError():
            return KeySpent(code)
        case stripe.RateLimitError() | stripe.APIConnectionError():
            return Away(code)
        case stripe.InvalidRequestError(http_status=404):
            return NoSuchSession()
        case stripe.AuthenticationError() | stripe.PermissionError():
            return NotAllowed(code)
        case stripe.APIError() if (error.headers or {}).get("idempotent-replayed") == "true":
            # Stripe also stores a 5xx once the work had begun, and returns nothing else under this key for a day.
            return KeySpent(code)
        case stripe.APIError():
            return Away(code)
        case _:
            return Refused(code)


def _session(session: "stripe.checkout.Session") -> Session:
    """Read what we need; AttributeError, TypeError or ValueError when the answer is no session of mode payment."""
    expires_at = datetime.fromtimestamp(session.expires_at, UTC)
    is_paid = session.payment_status in NOTHING_OWED
    return Session(session.id, SessionStatus(session.status or ""), session.url, expires_at, is_paid)


def _endpoints(listed: "stripe.ListObject[stripe.WebhookEndpoint]") -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(one.id, one.url, one.status == "enabled", tuple(one.enabled_events), one.api_version, one.livemode)
        for one in listed.data
    )


class _Listed(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw]
    has_more: bool


class _Head(msgspec.Struct, frozen=True):
    id: str
    type: str
    created: int


def _events(listed: "stripe.ListObject[stripe.Event]") -> EventPage:
    """Read the answer's own text: the library's objects would have to be written as JSON again."""
    assert listed.last_response is not None
    page = msgspec.json.decode(listed.last_response.body, type=_Listed)
    heads = [msgspec.json.decode(raw, type=_Head) for raw in page.data]
    events = (
        ListedEvent(head.id, head.type, datetime.fromtimestamp(head.created, UTC), bytes(raw))
        for head, raw in zip(heads, page.data, strict=True)
    )
    return EventPage(tuple(events), page.has_more)


def _code(error: stripe.StripeError) -> str:
    """Return Stripe's code of an error, else the kind of error: a bounded set, without free text."""
    inner = error.error.code if error.error is not None and isinstance(error.error.code, str) else None
    return error.code or inner or type(error).__name__
