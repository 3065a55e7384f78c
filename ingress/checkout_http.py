"""POST /payment/checkout: from the HTTP request to its parameters, and from the outcome to the HTTP answer.

Enters: a request. Leaves: 201, or a problem. A caller cannot set the amount, and an undocumented field is refused, so that
no caller believes it had an effect. Next: checkout.py, which opens the session.
"""

import re
from collections.abc import Collection
from uuid import UUID

import msgspec
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from ingress import access, answers, bodies, checkout, problems
from ingress.access import Caller
from ingress.checkout import Checkout, Opened
from ingress.checkout_rules import CheckoutParams
from ingress.limits import RateLimit
from ingress.problems import Problem
from ingress.return_urls import is_allowed
from ingress.store import DatabaseAway
from shared import clock, logs, messages, metrics, settings

log = logs.get(__name__)

BODY_BYTES_MAX = 16_384  # two URLs of 2048 characters, escaped, and a UUID
CHECKOUTS_PER_MINUTE_MAX = 10
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")  # printable ASCII, as long as Stripe's own


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of the request."""

    booking_id: UUID
    success_url: str
    cancel_url: str


DECODER = msgspec.json.Decoder(Body)


class CheckoutHandler:
    """Answers checkouts; the limit counts in this process."""

    def __init__(self, checkouts: Checkout, engine: AsyncEngine, jwt: settings.Jwt, origins: Collection[str]) -> None:
        self._checkouts = checkouts
        self._engine = engine
        self._jwt = jwt
        self._origins = origins
        self._limit = RateLimit(count=CHECKOUTS_PER_MINUTE_MAX, seconds=60)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one checkout; raises store.DatabaseAway.

        Exceptions are counted, too: an operator who is called looks at this metric alone.
        """
        try:
            outcome = await self._outcome(request)
        except Exception as error:
            problem = problems.DATABASE_UNAVAILABLE if isinstance(error, DatabaseAway) else problems.INTERNAL
            metrics.checkout_requests.labels(outcome=problem.code).inc()
            raise
        match outcome:
            case Opened(payment=payment, session_id=session_id, url=url):
                metrics.checkout_requests.labels(outcome="created").inc()
                return answers.json(
                    201,
                    {
                        "session_id": session_id,
                        "url": url,
                        "payment_id": str(payment.id),
                        "amount": answers.amount(payment.amount_minor, payment.currency),
                        "currency": payment.currency,
                    },
                )
            case Problem():
                metrics.checkout_requests.labels(outcome=outcome.code).inc()
                return problems.answer(outcome)

    async def _outcome(self, request: web.Request) -> Opened | Problem:
        caller = await access.identify(request, self._engine, self._jwt)
        if isinstance(caller, Problem):
            return caller
        wait_seconds = self._limit.admit(caller.user_id, clock.monotonic())
        if wait_seconds is not None:
            return problems.RATE_LIMITED.with_header("Retry-After", str(wait_seconds))
        params = await self._params(request, caller)
        if isinstance(params, Problem):
            return params
        outcome = await self._checkouts.open(caller, params)
        if isinstance(outcome, Problem):
            log.info("checkout.refused", booking_id=str(params.booking_id), code=outcome.code)
        return outcome

    async def _params(self, request: web.Request, caller: Caller) -> CheckoutParams | Problem:
        keys = request.headers.getall("Idempotency-Key", [])
        if len(keys) > 1 or not all(IDEMPOTENCY_KEY.fullmatch(key) for key in keys):
            return problems.REQUEST_INVALID.about(
                "Idempotency-Key must be one header of 1 to 255 printable ASCII characters without spaces."
            )
        if refused := bodies.refusal(request, bytes_max=BODY_BYTES_MAX):
            return refused
        body = await bodies.read(request, bytes_max=BODY_BYTES_MAX)
        if isinstance(body, Problem):
            return body
        try:
            fields = DECODER.decode(body)
        except msgspec.ValidationError as invalid:
            # The text names the field and the types, and an unknown field by its name; never a value.
            return problems.REQUEST_INVALID.about(f"{invalid}.")
        except messages.DECODING_ERRORS:
            return problems.REQUEST_INVALID.about("The body is not JSON.")
        if not (is_allowed(fields.success_url, self._origins) and is_allowed(fields.cancel_url, self._origins)):
            return problems.URL_REFUSED
        key = checkout.hashed_key(caller, keys[0]) if keys else None
        return CheckoutParams(fields.booking_id, fields.success_url, fields.cancel_url, key)
