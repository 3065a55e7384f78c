"""Every call of the API passes here: key, parameters, idempotency, armed faults, answer.

An HTTP request enters; a JSON answer leaves, or the connection breaks because a fault asked for it. Next: ``api``.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from deploy.dev.stripe import forms, idempotency, ids
from deploy.dev.stripe.api import Call, Route
from deploy.dev.stripe.errors import ApiError, Json
from deploy.dev.stripe.faults import Fault
from deploy.dev.stripe.idempotency import Answer
from deploy.dev.stripe.objects.event import API_VERSION
from deploy.dev.stripe.sandbox import Sandbox

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth"
    " (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or"
    " we can help at https://support.stripe.com/."
)
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?(;.*)?")  # as Stripe names them, with or without betas
SOMETHING_WENT_WRONG = ApiError(500, "An unknown error occurred", kind="api_error")


class _Silence(Exception):
    """A fault wants the connection closed without an answer."""


@dataclass(frozen=True)
class Reply:
    """What goes back over the wire."""

    status: int
    body: str
    replayed: bool = False


def handler(sandbox: Sandbox, route: Route) -> Handler:
    """Return the aiohttp handler of this route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        request_id = ids.request()
        fault = sandbox.faults.take(route.name)
        try:
            reply = await _reply(sandbox, route, request, request_id, fault)
        except _Silence:
            return _closed(request, web.StreamResponse())
        except ApiError as refusal:
            reply = Reply(refusal.status, _text(refusal.body(request_id)))
        headers = _headers(request, request_id, reply)
        if fault and fault.kind == "cut":
            return await _cut(request, reply, headers)
        return web.Response(status=reply.status, text=reply.body, content_type="application/json", headers=headers)

    return handle


async def unknown_url(request: web.Request) -> web.Response:
    """Answer a route that this Stripe does not have."""
    request_id = ids.request()
    message = f"Unrecognized request URL ({request.method}: {request.path})."
    reply = Reply(404, _text(ApiError(404, message).body(request_id)))
    headers = _headers(request, request_id, reply)
    return web.Response(status=404, text=reply.body, content_type="application/json", headers=headers)


def authenticate(headers: Mapping[str, str]) -> None:
    """Refuse a request without a secret test key (Bearer, or Basic with the key as the user)."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    key = credentials.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(key, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            key = ""
    if not key:
        raise ApiError(401, NO_KEY, executed=False)
    if not key.startswith(("sk_test_", "rk_test_")):
        shown = key[:8] + "*" * 8
        raise ApiError(401, f"Invalid API Key provided: {shown} (a sandbox takes sk_test_ keys only)", executed=False)


async def _reply(sandbox: Sandbox, route: Route, request: web.Request, request_id: str, fault: Fault | None) -> Reply:
    authenticate(request.headers)
    version = request.headers.get("Stripe-Version", API_VERSION)
    if not VERSION.fullmatch(version):
        raise ApiError(400, f"Invalid Stripe API version: {version}", executed=False)
    if fault and fault.kind == "rate_limit":
        message = "Request rate limit exceeded. Learn more about rate limits https://stripe.com/docs/rate-limits."
        raise ApiError(429, message, code="rate_limit", executed=False)
    pairs = await _pairs(request)
    call = Call(
        tree=forms.parse(pairs),
        object_id=request.match_info.get("id", ""),
        now=sandbox.now,
        public_url=sandbox.settings.public_url,
        request_id=request_id,
        idempotency_key=request.headers.get("Idempotency-Key") if request.method == "POST" else None,
    )
    key = call.idempotency_key
    if key is None:
        return await _execute(sandbox, route, call, fault)
    fingerprint = idempotency.fingerprint(request.method, request.path, pairs)
    begun = sandbox.answers.begin(key, fingerprint, now=sandbox.clock.now())
    if isinstance(begun, Answer):
        return Reply(begun.status, begun.body, replayed=True)
    try:
        return await _execute(sandbox, route, call, fault)
    finally:
        sandbox.answers.release(key)


async def _execute(sandbox: Sandbox, route: Route, call: Call, fault: Fault | None) -> Reply:
    """Do the work unless a fault comes before it; the idempotency key is held meanwhile."""
    match fault.kind if fault else None:
        case "conflict":
            message = (
                "This object cannot be accessed right now because another API request or Stripe process is currently"
                " accessing it."
            )
            raise ApiError(409, message, code="lock_timeout", executed=False)
        case "error_before":
            raise SOMETHING_WENT_WRONG
        case "hang_before":
            assert fault is not None
            await asyncio.sleep(fault.seconds)
            raise _Silence
        case "hang_after":
            assert fault is not None
            _perform(sandbox, route, call)
            await asyncio.sleep(fault.seconds)
            raise _Silence
        case "error_after":
            return _perform(sandbox, route, call, instead=SOMETHING_WENT_WRONG)
        case _:
            return _perform(sandbox, route, call)


def _perform(sandbox: Sandbox, route: Route, call: Call, *, instead: ApiError | None = None) -> Reply:
    """Change the world, keep the answer under the key and return it; no await, so nothing comes between."""
    try:
        reply = Reply(200, _text(route.perform(sandbox.world, call)))
        if instead:
            reply = Reply(instead.status, _text(instead.body(call.request_id)))
    except ApiError as refusal:
        if not refusal.executed:
            raise
        reply = Reply(refusal.status, _text(refusal.body(call.request_id)))
    if route.method != "GET":
        key = call.idempotency_key
        now = sandbox.clock.now()
        sandbox.commit((key, sandbox.answers.settle(key, reply.status, reply.body, now=now)) if key else None)
    return reply


async def _pairs(request: web.Request) -> list[tuple[str, str]]:
    try:
        raw = (await request.read()).decode() if request.method == "POST" else request.rel_url.raw_query_string
        return parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as fault:
        raise ApiError(400, "Invalid request: the parameters are not a form.", executed=False) from fault


def _headers(request: web.Request, request_id: str, reply: Reply) -> dict[str, str]:
    headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}  # the one that answered, whichever was asked for
    if reply.status == 401:  # noqa: PLR2004 - RFC 9110, section 15.5.2
        headers["WWW-Authenticate"] = 'Bearer realm="Stripe"'
    if "Idempotency-Key" in request.headers:
        headers["Idempotency-Key"] = request.headers["Idempotency-Key"]
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    return headers


async def _cut(request: web.Request, reply: Reply, headers: dict[str, str]) -> web.StreamResponse:
    body = reply.body.encode()
    response = web.StreamResponse(status=reply.status, headers=headers | {"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _closed(request, response)


def _closed(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport:
        request.transport.close()
    return response


def _text(body: Json) -> str:
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()
