"""The door's listening socket, and its orderly end.

Enters: where to listen, and the protocol for each connection. Leaves: accepted connections, until `stop`. Connections that the
kernel had accepted by then and we had not are still served: closing the socket would reset them, which during a rolling restart
on a shared port (SO_REUSEPORT) loses requests.
"""

import asyncio
import resource
import socket
from collections.abc import Callable

# How many connections may wait for us to accept them. A flood fills this queue, and honest clients behind it retry after a
# second; the kernel allows no more than net.core.somaxconn.
BACKLOG = 4096


class Listener:
    """An open port; make one with `listen`. `port` is what was bound."""

    def __init__(self, server: asyncio.Server, bound: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._server, self._bound, self._protocol = server, bound, protocol
        self.port: int = bound.getsockname()[1]

    async def stop(self) -> None:
        """Accept the connections that are already waiting, and no more."""
        self._server.close()
        # uvloop closes its own copy of the socket in its next turn; ours keeps the queue until then.
        for _ in range(2):
            await asyncio.sleep(0)
        waiting = []
        try:
            while True:
                waiting.append(self._bound.accept()[0])
        except OSError:
            self._bound.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            connection.setblocking(False)  # noqa: FBT003 - the name says it
            await loop.connect_accepted_socket(self._protocol, connection)


async def listen(host: str, port: int, protocol: Callable[[], asyncio.Protocol], *, reuse_port: bool = False) -> Listener:
    """Open the port; OSError when it is taken. `port` 0 is any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=reuse_port)
    bound.setblocking(False)  # noqa: FBT003 - the name says it
    try:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, sock=bound.dup(), backlog=BACKLOG)
    except BaseException:
        bound.close()
        raise
    return Listener(server, bound, protocol)


def raise_files_max(wanted: int) -> int:
    """Let this process open as many files as it may, up to `wanted`; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited else soft
