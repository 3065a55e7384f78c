"""One table: what went wrong -> the HTTP answer.

Enters: one of the problems below, and what is special about this occurrence. Leaves: an RFC 9457 `application/problem+json`
answer whose `code` never changes its meaning, so that programs may decide from it; `detail` is for people. An answer reveals no
internals: no message of an exception, no identifier that the caller did not send or may not see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/problem+json"
# The titles of RFC 9110, section 15.5, and of Python from 3.13 on: an answer must not depend on Python's version.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of refusal. `members` are what RFC 9457, section 3.2 calls extension members."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    closes: bool = False  # the rest of the request is not read
    members: Mapping[str, Any] = field(default_factory=dict)

    def about(self, detail: str) -> "Problem":
        """Return the same problem with a detail that names what the caller sent wrong."""
        return replace(self, detail=detail)

    def showing(self, **members: Any) -> "Problem":
        """Return the same problem with more members."""
        return replace(self, members={**self.members, **members})

    def with_header(self, name: str, value: str) -> "Problem":
        """Return the same problem with one more header, or another value of it."""
        return replace(self, headers={**self.headers, name: value})


SOON = {"Retry-After": "2"}  # outages of a broker or a database mostly end within seconds

# Stripe's webhook: the answer never depends on the reason; the metric and the log have it
SIGNATURE_INVALID = Problem(400, "signature_invalid", "The signature is missing, wrong or out of date.")
EVENT_INVALID = Problem(400, "event_invalid", "The body is not an event of Stripe.")
BODY_TOO_SLOW = Problem(408, "body_too_slow", "The body took too long to arrive.", closes=True)
BODY_TOO_LARGE = Problem(413, "body_too_large", "The body is too large.", closes=True)
ENCODING_REFUSED = Problem(415, "encoding_refused", "The body must come without Content-Encoding.", closes=True)
BODY_BROKEN = Problem(400, "body_broken", "The body ended too early or was not framed as announced.", closes=True)
KAFKA_UNAVAILABLE = Problem(503, "kafka_unavailable", "The event could not be stored; send it again.", SOON)

# Authentication and authorisation
UNAUTHORIZED = Problem(401, "unauthorized", "A valid bearer token is needed.", {"WWW-Authenticate": "Bearer"})
FORBIDDEN = Problem(403, "forbidden", "This belongs to somebody else.")
RATE_LIMITED = Problem(429, "rate_limited", "Too many checkouts; wait a moment.")

# What the request asks for
REQUEST_INVALID = Problem(422, "request_invalid", "The request does not have the documented form.")
URL_REFUSED = Problem(
    422,
    "url_refused",
    "success_url and cancel_url must lead to an allowed origin, in at most 2048 characters that a URL may have;"
    " others are escaped.",
)
IDEMPOTENCY_KEY_REUSED = Problem(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
BOOKING_NOT_FOUND = Problem(404, "booking_not_found", "There is no such booking.")
PAYMENT_NOT_FOUND = Problem(404, "payment_not_found", "There is no such payment.")
BOOKING_NOT_PENDING = Problem(400, "booking_not_pending", "The booking is not waiting for a payment.")
BOOKING_PAST = Problem(400, "booking_past", "The booked session lies in the past.")
BOOKING_HAS_NO_PRICE = Problem(400, "booking_has_no_price", "The coach has no hourly rate that can be charged.")
CLIENT_EMAIL_REFUSED = Problem(
    400,
    "client_email_refused",
    "The payment provider does not accept the client's e-mail address; once it is corrected, the same call succeeds.",
)
PAYMENT_ALREADY_EXISTS = Problem(
    400,
    "payment_already_exists",
    "The booking has a payment already: open under `url`, or paid or being paid where that is null.",
)

# Stripe and the database
STRIPE_UNAVAILABLE = Problem(
    502, "stripe_unavailable", "The payment provider did not answer; the same call continues where this one ended.", SOON
)
STRIPE_REFUSED = Problem(502, "stripe_refused", "The payment provider refused the payment.")
DATABASE_UNAVAILABLE = Problem(503, "database_unavailable", "The service cannot look this up now; try again.", SOON)

# HTTP itself
NO_HTTP = Problem(400, "no_http", "The request is not valid HTTP, or its head is too large.", closes=True)
NOT_FOUND = Problem(404, "not_found", "There is nothing here.")
METHOD_NOT_ALLOWED = Problem(405, "method_not_allowed", "This address does not allow the method.")
INTERNAL = Problem(500, "internal", "Something went wrong on our side.")


def answer(problem: Problem) -> web.Response:
    """Return the HTTP answer of a problem; no cache may keep it."""
    body = {
        "type": f"urn:culturebridge:problem:{problem.code}",
        "title": TITLES.get(problem.status, HTTPStatus(problem.status).phrase),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        **problem.members,
    }
    response = web.Response(
        status=problem.status,
        body=msgspec.json.encode(body),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )
    if problem.closes:
        response.force_close()
    return response
