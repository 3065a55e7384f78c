"""Limits how many connections may be open and how long each may take: a slow client loses its place to a new one.

Enters: every accepted connection, before any of its HTTP is parsed. Leaves: its bytes, passed on to the HTTP server's own
protocol once the first head is complete; and the moment when no connection is left, so that the process may end. aiohttp limits
neither the number of connections, nor how long a request's head may take, nor how long an answer may wait for its client to
read it; here each has a limit. When all places are taken, the connection that has been idle for longest is closed, never one
that is being served. Any HTTP server can be put behind `guarding`: it calls `began` when it has read a request's head, `ended`
after its answer, and `body_read` once it has read the whole body.
"""

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from shared import clock, garbage, logs, metrics, settings

log = logs.get(__name__)

HEAD_SECONDS_MAX = 10.0  # from a request's first byte to its last header, and from connecting to the first byte
# aiohttp limits the length and the number of header lines, together to 1 MB; the head of a real request has 1 to 2 kB. Checked
# only after a second, since a body may follow its head before any handler begins.
HEAD_BYTES_MAX = 32_768
HEAD_BYTES_AFTER_SECONDS = 1.0
UNREAD_SECONDS_MAX = 10.0  # for a client that does not read its answer
UNREAD_CONNECTIONS_MAX = 32  # each keeps an answer and the next requests in memory; of more, the oldest is closed
CHECK_EVERY_SECONDS = 0.5
LATE_SECONDS = 0.25  # a check that runs this late shows that the process is overloaded
CROWD_CONNECTIONS_MIN = 256  # after this many, once all but an eighth have closed, free memory is returned
# While draining: a client may just be writing to its idle connection, and closing it then would lose a request.
IDLE_SECONDS_MAX = 1.5
FILES_OF_OURS = 64  # connections to the database and to Kafka, logs, health

Reason = Literal["address", "full", "silent", "head_too_slow", "head_too_large", "unread"]


class Connection(asyncio.Protocol):
    """One connection: passes its bytes on to the HTTP server's protocol, and keeps the times by which it may be closed.

    Times are of `clock.monotonic`; None = nothing is awaited.
    """

    __slots__ = (
        "_connections",
        "_head",
        "_inner",
        "_make_inner",
        "address",
        "closing_at",
        "served",
        "transport",
        "unread_at",
        "waiting_bytes",
        "waiting_since",
    )

    def __init__(self, connections: "Connections", make_inner: Callable[[], asyncio.Protocol]) -> None:
        self._connections, self._make_inner = connections, make_inner
        # Created once the first head is complete: a client that sends nothing, or never completes its head, costs next to
        # nothing.
        self._inner: asyncio.Protocol | None = None
        self._head = b""
        self.transport: asyncio.Transport
        self.address = ""
        self.waiting_since: float | None = clock.monotonic()
        self.waiting_bytes = 0
        self.unread_at: float | None = None
        self.closing_at: float | None = None
        self.served: Literal["never", "now", "before"] = "never"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register this connection, or close it when there is no place for it."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self.address = address_of(transport.get_extra_info("peername"))
        if (refused := self._connections.admit(self)) is not None:
            self.dismiss(refused)

    def data_received(self, data: bytes) -> None:
        """Record since when bytes arrive that belong to no request yet; pass bytes on once the first head is complete."""
        if self.served != "now":
            if self.waiting_since is None:
                self.waiting_since = clock.monotonic()
            self.waiting_bytes += len(data)
        if self._inner is None:
            data = self._head = self._head + data
            if may_be_head(data):
                return
            self._head = b""
            self._inner = self._make_inner()
            self._inner.connection_made(self.transport)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the end on; close when no head was completed."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """Record since when an answer waits for its client to read it."""
        self.unread_at = clock.monotonic()
        self._connections.unread(self)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Record that the client reads again."""
        self.unread_at = None
        self._connections.read(self)
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place of this connection."""
        self._connections.leave(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)
            self._inner = None

    def began(self) -> None:
        """Record that a request's head was read: until `ended` the handler's own deadlines apply."""
        self._connections.serve(self)
        self.served, self.waiting_since, self.waiting_bytes = "now", None, 0

    def ended(self) -> None:
        """Record that the request was answered."""
        self.served = "before"
        self._connections.set_idle(self)

    def body_read(self) -> None:
        """Record that the whole body was read, which may be after the answer."""
        self.waiting_since, self.waiting_bytes = None, 0

    def fault(self, now: float) -> Reason | None:
        """Return why this connection must be closed; None when it may stay."""
        waited = 0.0 if self.waiting_since is None else now - self.waiting_since
        if waited > HEAD_SECONDS_MAX:
            return "silent" if not self.waiting_bytes else "head_too_slow"
        if waited > HEAD_BYTES_AFTER_SECONDS and self.waiting_bytes > HEAD_BYTES_MAX:
            return "head_too_large"
        for since in (self.unread_at, self.closing_at):
            if since is not None and now - since > UNREAD_SECONDS_MAX:
                return "unread"
        return None

    def check(self, now: float) -> None:
        """Close this connection when one of its limits is exceeded."""
        if self.closing_at is None and self.transport.is_closing():
            # It closes once its answer is read; without this time nothing would notice that the client never reads.
            self.closing_at = now
        if (fault := self.fault(now)) is not None:
            self.dismiss(fault)

    def dismiss(self, reason: Reason) -> None:
        """Close at once, without an answer: such a client would not read it in time."""
        metrics.connections_dismissed.labels(reason).inc()
        self._connections.leave(self)
        self.transport.abort()


class Connections:
    """All open connections: at most `connections_max`, of them `per_address_max` from one address."""

    def __init__(self, *, connections_max: int, per_address_max: int) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._open: set[Connection] = set()
        self._at_address: Counter[str] = Counter()
        # Connections that are not being served, longest idle first; those that never sent a request are closed before the
        # others.
        self._never_served: OrderedDict[Connection, None] = OrderedDict()
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._unread: OrderedDict[Connection, None] = OrderedDict()
        self._left: asyncio.Event | None = None
        self.is_late = False

    def __len__(self) -> int:
        return len(self._open)

    def guarding(self, make_inner: Callable[[], asyncio.Protocol]) -> Callable[[], Connection]:
        """Return the protocol factory for an event loop's server, in front of an HTTP server's own."""
        return lambda: Connection(self, make_inner)

    def admit(self, connection: Connection) -> Reason | None:
        """Register a connection and return None, or return why there is no place for it."""
        if self._at_address[connection.address] >= self._per_address_max:
            return "address"
        if len(self._open) >= self._connections_max:
            idle = next(iter(self._never_served or self._idle), None)
            # While the process is overloaded, an idle connection may have a request that was not read yet: refuse the new one.
            if idle is None or self.is_late:
                return "full"
            idle.dismiss("full")
        self._open.add(connection)
        self._at_address[connection.address] += 1
        self._never_served[connection] = None
        metrics.connections_open.set(len(self._open))
        return None

    def serve(self, connection: Connection) -> None:
        """Keep this connection from being closed in favour of a new one."""
        self._never_served.pop(connection, None)
        self._idle.pop(connection, None)

    def set_idle(self, connection: Connection) -> None:
        """Append this connection to those that may be closed in favour of a new one."""
        if connection in self._open:
            self._idle[connection] = None
        if self._left is not None:
            self._left.set()

    def unread(self, connection: Connection) -> None:
        """Record that this one's answer waits for its client; when too many wait, close the first."""
        self._unread[connection] = None
        if len(self._unread) > UNREAD_CONNECTIONS_MAX:
            next(iter(self._unread)).dismiss("unread")

    def read(self, connection: Connection) -> None:
        """Record that the answer was read."""
        self._unread.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Free the place of a connection; may be called twice."""
        self.read(connection)
        if connection not in self._open:
            return
        self.serve(connection)
        self._open.remove(connection)
        self._at_address[connection.address] -= 1
        if not self._at_address[connection.address]:
            del self._at_address[connection.address]
        metrics.connections_open.set(len(self._open))
        if self._left is not None:
            self._left.set()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Close connections that exceed a limit, for as long as the block lasts."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    @web.middleware
    async def follow(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Report the begin and the end of aiohttp's request to its connection; while draining, close it after the answer."""
        connection = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(connection, Connection):
            connection.began()
        try:
            response = await handler(request)
        finally:
            if isinstance(connection, Connection):
                connection.ended()
                request.content.on_eof(connection.body_read)
        if self._left is not None:
            response.force_close()
        return response

    async def drained(self, *, seconds_max: float) -> None:
        """Drain: close each connection after its next answer; return when no request is under way, or when time is up."""
        self._left = asyncio.Event()
        await self._until(lambda: not self._open, min(IDLE_SECONDS_MAX, seconds_max))
        await self._until(lambda: not self._served, seconds_max - IDLE_SECONDS_MAX)

    @property
    def _served(self) -> int:
        return len(self._open) - len(self._never_served) - len(self._idle)

    async def _until(self, condition: Callable[[], bool], seconds_max: float) -> None:
        assert self._left is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                while not condition():
                    self._left.clear()
                    await self._left.wait()

    async def _watch(self) -> None:
        most = 0
        now = clock.monotonic()
        while True:
            due = now + CHECK_EVERY_SECONDS
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            now = clock.monotonic()
            self.is_late = now - due > LATE_SECONDS
            for connection in list(self._open):
                try:
                    connection.check(now)
                except Exception:
                    # No code awaits this task: if the exception ended it, every slow client could stay for ever.
                    log.exception("connection.not_watched")
            most = max(most, len(self._open))
            if most >= CROWD_CONNECTIONS_MIN and len(self._open) <= most // 8:
                garbage.give_back()
                most = 0


def of_settings(http: settings.Http, files_max: int) -> Connections:
    """Return the limits of the settings, fewer connections where the process may not open so many files."""
    room = max(files_max - FILES_OF_OURS, 1)
    if room < http.ingress_connections_max:
        log.warning("ingress.few_files", files_max=files_max, connections_max=room)
    return Connections(
        connections_max=min(http.ingress_connections_max, room), per_address_max=http.ingress_connections_per_address_max
    )


def may_be_head(data: bytes) -> bool:
    """Return whether this may be the begin of a head that is not complete; the HTTP server refuses what is none."""
    return (
        data[:1].isalpha()
        and len(data) <= HEAD_BYTES_MAX
        and b"\r\n\r\n" not in data
        and data.count(b"\n") == data.count(b"\r\n")
    )


def address_of(peer: Any) -> str:
    """Return the address under which a connection is counted: an IPv4 address, or an IPv6 network of 64 bits."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    if ":" not in host:
        return host
    # A customer of an IPv6 provider has a whole such network.
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
