"""What holds for every answer of the door: nothing of the inside leaves it, and browsers hear who may read it.

Enters: a handler's answer or its exception, or what is no HTTP at all. Leaves: an answer, always. CORS is told only
on the addresses that the web application calls, never on the webhook, and only to the origins that a customer may be sent
back to.
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
from shared import logs, strangers

log = logs.get(__name__)

CORS_MAX_AGE_SECONDS = 600
CORS_HEADERS = "Authorization, Content-Type, Idempotency-Key"

MakesRequest = Callable[
    [RawRequestMessage, StreamReader, web.RequestHandler, AbstractStreamWriter, "asyncio.Task[None]"], web.BaseRequest
]

Handles = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpProtocol(web.RequestHandler):
    """HTTP's side of one connection; what aiohttp cannot read is a problem like any other, without aiohttp's own words."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what cannot be read, or what broke outside every handler; the connection ends with it.

        aiohttp itself would repeat the request, in Python's spelling.
        """
        super().handle_error(request, status, exc, message)  # raises ConnectionError where an answer has begun
        response = problems.answer(problems.INTERNAL if status == web.HTTPInternalServerError.status_code else problems.NO_HTTP)
        response.headers[hdrs.SERVER] = strangers.SERVER
        response.force_close()
        return response


def correcting(make: MakesRequest) -> MakesRequest:
    """Return what makes the same request, of a head that says what we go by."""

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
    """Return a head without the host of its target, and the last one of its connection where it asks for another protocol.

    We are nobody's proxy (RFC 9112, section 3.2.2), and aiohttp decodes that host outside of all handlers: one that is no name
    ("http://xn--/") would be answered by nobody. And we go on in HTTP/1.1 (RFC 9110, section 7.8); but of what stands behind
    such a request aiohttp forgets what came along, and takes the rest for a request.
    """
    if message.url.absolute:
        message = message._replace(url=message.url.relative())
    if message.upgrade:
        message = message._replace(should_close=True)
    return message


def without_aiohttps_words(handle: Handles) -> Handles:
    """Return what answers the same requests, also those that aiohttp refuses before any middleware is asked.

    These have an `Expect` that it does not know (RFC 9110, section 10.1.1), which it would repeat.
    """

    async def handled(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handle(request)
        except web.HTTPException:
            return problems.answer(problems.NO_HTTP)

    return handled


@web.middleware
async def no_internals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into a problem; the log gets what the caller does not."""
    if request.version < HttpVersion11 and hdrs.TRANSFER_ENCODING in request.headers:
        # RFC 9112, section 6.1: it has passed somebody who knows no chunks, and where it ends is anybody's guess.
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
    """Return the middleware that answers browsers of `origins` under `paths` (the patterns of the routes)."""

    @web.middleware
    async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
        if await _pattern(request) not in paths:
            return await handler(request)
        response = await handler(request)
        response.headers[hdrs.VARY] = hdrs.ORIGIN
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = hdrs.RETRY_AFTER
        return response

    return tell


async def _pattern(request: web.Request) -> str | None:
    """Return the pattern of the address that is asked, also where its method is wrong; None where there is no such address."""
    if (found := request.match_info.route.resource) is not None:
        return found.canonical
    for resource in request.app.router.resources():
        _, methods = await resource.resolve(request)
        if methods:
            return resource.canonical
    return None


def preflight(method: str, origins: Collection[str]) -> Handler:
    """Return the handler of OPTIONS for an address with one method (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(status=204)
        if request.headers.get(hdrs.ORIGIN) in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = method
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = CORS_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(CORS_MAX_AGE_SECONDS)
        return response

    return answer
