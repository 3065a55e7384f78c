"""Rules for every answer of the door: it reveals no internals, and carries the CORS headers that browsers need.

Enters: a handler's answer or its exception, or bytes that are not valid HTTP. Leaves: always an answer. CORS headers are set
only on the routes that the web application calls, never on the webhook, and only for the origins to which a customer may be
sent back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.typedefs import Handler, Middleware

from ingress import problems
from ingress.store import DatabaseAway
from shared import http_servers, logs

log = logs.get(__name__)

CORS_MAX_AGE_SECONDS = 600
CORS_HEADERS = "Authorization, Content-Type, Idempotency-Key"

MakesRequest = Callable[
    [RawRequestMessage, StreamReader, web.RequestHandler, AbstractStreamWriter, "asyncio.Task[None]"], web.BaseRequest
]

Handles = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpProtocol(web.RequestHandler):
    """aiohttp's protocol for one connection, which answers invalid HTTP with a problem instead of aiohttp's own text."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer invalid HTTP, or an exception outside of all handlers, and close the connection.

        aiohttp's own answer would repeat the request, in Python's notation.
        """
        super().handle_error(request, status, exc, message)  # raises ConnectionError once an answer has begun
        response = problems.answer(problems.INTERNAL if status == web.HTTPInternalServerError.status_code else problems.NO_HTTP)
        response.headers[hdrs.SERVER] = http_servers.SERVER
        response.force_close()
        return response


def correcting(make: MakesRequest) -> MakesRequest:
    """Wrap aiohttp's request factory: every request is made from a corrected head."""

    def made(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return make(_corrected(message), payload, protocol, writer, task)

    return made


def _corrected(message: RawRequestMessage) -> RawRequestMessage:
    """Return the head with a relative target; a request for another protocol closes its connection after the answer.

    We are no proxy and ignore the host of an absolute target (RFC 9112, section 3.2.2); aiohttp decodes it outside of all
    handlers, so that a request with an invalid one ("http://xn--/") would get no answer. We ignore an upgrade and stay with
    HTTP/1.1 (RFC 9110, section 7.8); but aiohttp drops the bytes that came together with such a request, and parses the later
    ones as a request.
    """
    if message.url.absolute:
        message = message._replace(url=message.url.relative())
    if message.upgrade:
        message = message._replace(should_close=True)
    return message


def without_aiohttps_words(handle: Handles) -> Handles:
    """Wrap aiohttp's handler: requests that aiohttp refuses before any middleware runs are answered with a problem, too.

    They have an unknown `Expect` (RFC 9110, section 10.1.1), which aiohttp's own answer would repeat.
    """

    async def handled(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handle(request)
        except web.HTTPException:
            return problems.answer(problems.NO_HTTP)

    return handled


@web.middleware
async def no_internals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into a problem; its details go to the log, not to the caller."""
    if request.version < HttpVersion11 and hdrs.TRANSFER_ENCODING in request.headers:
        # RFC 9112, section 6.1: an intermediary that knows no chunks may have passed it on, so where it ends is uncertain.
        return problems.answer(problems.NO_HTTP)
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return problems.answer(problems.NOT_FOUND)
    except web.HTTPMethodNotAllowed as error:
        return problems.answer(problems.METHOD_NOT_ALLOWED.with_header("Allow", ", ".join(sorted(error.allowed_methods))))
    except DatabaseAway as away:
        log.warning("database.away", path=request.path, error=str(away))
        return problems.answer(problems.DATABASE_UNAVAILABLE)
    except Exception:
        log.exception("request.broke", path=request.path, method=request.method)
        return problems.answer(problems.INTERNAL)


def cors(origins: Collection[str], paths: Collection[str]) -> Middleware:
    """Return the middleware that adds the CORS headers for `origins` under `paths` (the patterns of the routes)."""

    @web.middleware
    async def add_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
        if await _pattern(request) not in paths:
            return await handler(request)
        response = await handler(request)
        response.headers[hdrs.VARY] = hdrs.ORIGIN
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = hdrs.RETRY_AFTER
        return response

    return add_headers


async def _pattern(request: web.Request) -> str | None:
    """Return the pattern of the requested route, also when its method is wrong; None when there is no such route."""
    if (found := request.match_info.route.resource) is not None:
        return found.canonical
    for resource in request.app.router.resources():
        _, methods = await resource.resolve(request)
        if methods:
            return resource.canonical
    return None


def preflight(method: str, origins: Collection[str]) -> Handler:
    """Return the handler of OPTIONS for a route with one method (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(status=204)
        if request.headers.get(hdrs.ORIGIN) in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = method
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = CORS_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(CORS_MAX_AGE_SECONDS)
        return response

    return answer
