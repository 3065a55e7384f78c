"""Limits how many connections may be open and how long each may take: a slow client loses its place to a new one.

Enters: every connection, before anything of HTTP is read. Leaves: the HTTP server's own protocol behind it, from the first
whole head on, and the moment when nobody is left, so that the process may end. aiohttp limits neither the number of
connections, nor the time that a request's head may take, nor the time that an answer may wait for its reader; here each has a
limit. When all places are taken, the connection that has been quiet for longest is closed; one that is being served never is.
Any server may stand behind `guarding`: it calls `began` when it has a request's head, `ended` after its answer, and `heard_out`
once it has all of its body.
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
# aiohttp bounds a line and their number, together 1 MB; of real requests the head has 1 to 2 kB. Judged after a second only,
# since a body may follow its head more quickly than any handler begins.
HEAD_BYTES_MAX = 32_768
HEAD_BYTES_AFTER_SECONDS = 1.0
UNREAD_SECONDS_MAX = 10.0  # for who asks and does not read the answer
UNREAD_CONNECTIONS_MAX = 32  # each holds an answer and some requests behind it; beyond, the one that waits for longest goes
LOOK_EVERY_SECONDS = 0.5
LATE_SECONDS = 0.25  # a look that comes so late says that this process has more to do than it can
CROWD_CONNECTIONS_MIN = 256  # after so many, all but an eighth of whom have left, their memory is given back
# While we leave: who knows of an idle connection may just be writing to it, and closing it then would lose a request.
IDLE_SECONDS_MAX = 1.5
FILES_OF_OURS = 64  # the database's connections, Kafka's, logs, health

Reason = Literal["address", "full", "silent", "head_too_slow", "head_too_large", "unread"]


class Connection(asyncio.Protocol):
    """One connection: passes everything on to the protocol behind it, and keeps the times by which it is judged.

    Moments are of `clock.monotonic`; None = nothing to wait for.
    """

    __slots__ = (
        "_all",
        "_behind",
        "_head",
        "_inner",
        "address",
        "closing_at",
        "heard_at",
        "heard_bytes",
        "served",
        "transport",
        "unread_at",
    )

    def __init__(self, everybody: "Connections", behind: Callable[[], asyncio.Protocol]) -> None:
        self._all, self._behind = everybody, behind
        # Made once a first head is complete: a stranger who says nothing, or never comes to an end, costs next to nothing.
        self._inner: asyncio.Protocol | None = None
        self._head = b""
        self.transport: asyncio.Transport
        self.address = ""
        self.heard_at: float | None = clock.monotonic()
        self.heard_bytes = 0
        self.unread_at: float | None = None
        self.closing_at: float | None = None
        self.served: Literal["never", "now", "before"] = "never"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or be refused."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self.address = address_of(transport.get_extra_info("peername"))
        if (refused := self._all.admit(self)) is not None:
            self.dismiss(refused)

    def data_received(self, data: bytes) -> None:
        """Note since when something is said that is no request yet."""
        if self.served != "now":
            if self.heard_at is None:
                self.heard_at = clock.monotonic()
            self.heard_bytes += len(data)
        if self._inner is None:
            data = self._head = self._head + data
            if may_be_head(data):
                return
            self._head = b""
            self._inner = self._behind()
            self._inner.connection_made(self.transport)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on; with nobody behind, close."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """Note since when an answer waits for its reader."""
        self.unread_at = clock.monotonic()
        self._all.unread(self)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Note that the reader reads."""
        self.unread_at = None
        self._all.read(self)
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._all.leave(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)
            self._inner = None

    def began(self) -> None:
        """Note that a request's head has come: until `ended` the request's own deadlines hold."""
        self._all.serve(self)
        self.served, self.heard_at, self.heard_bytes = "now", None, 0

    def ended(self) -> None:
        """Note that its answer was given."""
        self.served = "before"
        self._all.rest(self)

    def heard_out(self) -> None:
        """Note that nothing of the request is still to come: its answer may not have waited for its body."""
        self.heard_at, self.heard_bytes = None, 0

    def fault(self, now: float) -> Reason | None:
        """Tell why this connection must go; None when it may stay."""
        waited = 0.0 if self.heard_at is None else now - self.heard_at
        if waited > HEAD_SECONDS_MAX:
            return "silent" if not self.heard_bytes else "head_too_slow"
        if waited > HEAD_BYTES_AFTER_SECONDS and self.heard_bytes > HEAD_BYTES_MAX:
            return "head_too_large"
        for since in (self.unread_at, self.closing_at):
            if since is not None and now - since > UNREAD_SECONDS_MAX:
                return "unread"
        return None

    def look(self, now: float) -> None:
        """Dismiss this connection when it is time to."""
        if self.closing_at is None and self.transport.is_closing():
            # It closes once its answer is read; nobody else would see that this never happens.
            self.closing_at = now
        if (fault := self.fault(now)) is not None:
            self.dismiss(fault)

    def dismiss(self, reason: Reason) -> None:
        """Close without a word: whoever must go would not read it in time."""
        metrics.connections_dismissed.labels(reason).inc()
        self._all.leave(self)
        self.transport.abort()


class Connections:
    """Everybody who is here: at most `connections_max`, of them `per_address_max` of one address."""

    def __init__(self, *, connections_max: int, per_address_max: int) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._open: set[Connection] = set()
        self._at_address: Counter[str] = Counter()
        # Who is not being served, the longest quiet first; who never asked anything goes before who did.
        self._strangers: OrderedDict[Connection, None] = OrderedDict()
        self._resting: OrderedDict[Connection, None] = OrderedDict()
        self._unread: OrderedDict[Connection, None] = OrderedDict()
        self._left: asyncio.Event | None = None
        self.is_late = False

    def __len__(self) -> int:
        return len(self._open)

    def guarding(self, behind: Callable[[], asyncio.Protocol]) -> Callable[[], Connection]:
        """Return the protocol factory for an event loop's server, in front of an HTTP server's own."""
        return lambda: Connection(self, behind)

    def admit(self, connection: Connection) -> Reason | None:
        """Give a place and return None, or return why there is none."""
        if self._at_address[connection.address] >= self._per_address_max:
            return "address"
        if len(self._open) >= self._connections_max:
            quiet = next(iter(self._strangers or self._resting), None)
            # Whoever seems quiet while we are late may only not have been heard yet: then it is who comes that must go.
            if quiet is None or self.is_late:
                return "full"
            quiet.dismiss("full")
        self._open.add(connection)
        self._at_address[connection.address] += 1
        self._strangers[connection] = None
        metrics.connections_open.set(len(self._open))
        return None

    def serve(self, connection: Connection) -> None:
        """Nobody takes the place of who is being served."""
        self._strangers.pop(connection, None)
        self._resting.pop(connection, None)

    def rest(self, connection: Connection) -> None:
        """Put at the end of those who may have to make room."""
        if connection in self._open:
            self._resting[connection] = None
        if self._left is not None:
            self._left.set()

    def unread(self, connection: Connection) -> None:
        """Let this one's answer wait for its reader; too many of them, and the first must go."""
        self._unread[connection] = None
        if len(self._unread) > UNREAD_CONNECTIONS_MAX:
            next(iter(self._unread)).dismiss("unread")

    def read(self, connection: Connection) -> None:
        """Note that the answer was read."""
        self._unread.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Take the place back; may be called twice."""
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
        """Dismiss whoever is too slow, as long as the block lasts."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    @web.middleware
    async def follow(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell a connection when aiohttp's request begins and ends; while we leave, the connection ends with the answer."""
        connection = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(connection, Connection):
            connection.began()
        try:
            response = await handler(request)
        finally:
            if isinstance(connection, Connection):
                connection.ended()
                request.content.on_eof(connection.heard_out)
        if self._left is not None:
            response.force_close()
        return response

    async def drained(self, *, seconds_max: float) -> None:
        """Leave: end each connection with its next answer, wait for what is under way, or until the time is over."""
        self._left = asyncio.Event()
        await self._until(lambda: not self._open, min(IDLE_SECONDS_MAX, seconds_max))
        await self._until(lambda: not self._served, seconds_max - IDLE_SECONDS_MAX)

    @property
    def _served(self) -> int:
        return len(self._open) - len(self._strangers) - len(self._resting)

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
            due = now + LOOK_EVERY_SECONDS
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            now = clock.monotonic()
            self.is_late = now - due > LATE_SECONDS
            for connection in list(self._open):
                try:
                    connection.look(now)
                except Exception:
                    # Nobody awaits this task: without it every slow client might stay for ever.
                    log.exception("connection.not_watched")
            most = max(most, len(self._open))
            if most >= CROWD_CONNECTIONS_MIN and len(self._open) <= most // 8:
                garbage.give_back()
                most = 0


def of_settings(http: settings.Http, files_max: int) -> Connections:
    """Return the places that the settings ask for, fewer where the process may not open so many files."""
    room = max(files_max - FILES_OF_OURS, 1)
    if room < http.ingress_connections_max:
        log.warning("ingress.few_files", files_max=files_max, connections_max=room)
    return Connections(
        connections_max=min(http.ingress_connections_max, room), per_address_max=http.ingress_connections_per_address_max
    )


def may_be_head(said: bytes) -> bool:
    """Tell whether this may be a head that is still to end; what it can no more become is for the HTTP server to refuse."""
    return (
        said[:1].isalpha()
        and len(said) <= HEAD_BYTES_MAX
        and b"\r\n\r\n" not in said
        and said.count(b"\n") == said.count(b"\r\n")
    )


def address_of(peer: Any) -> str:
    """Return whose places a connection counts against: an IPv4 address, or an IPv6 network of 64 bits."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    if ":" not in host:
        return host
    # A customer of an IPv6 provider has a whole such network.
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
