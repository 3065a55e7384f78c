"""A mail server that accepts everything at once and keeps nothing but a count; `python -m tests.bench.sink PORT`.

It speaks just enough of RFC 5321 for one client that is no stranger, so that what is measured is the client.
"""

import asyncio
import sys

import uvloop

ANSWERS = {
    b"EHLO": b"250-sink\r\n250 8BITMIME\r\n",
    b"MAIL": b"250 OK\r\n",
    b"RCPT": b"250 OK\r\n",
    b"RSET": b"250 OK\r\n",
    b"NOOP": b"250 OK\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
END = b"\r\n.\r\n"


class Sink(asyncio.Protocol):
    """One client's connection."""

    def connection_made(self, transport):
        self._transport, self._buffer, self._in_data = transport, b"", False
        transport.write(b"220 sink\r\n")

    def data_received(self, data):
        self._buffer += data
        while True:
            if self._in_data:
                if END not in self._buffer:
                    return
                self._buffer = self._buffer.partition(END)[2]
                self._in_data = False
                self._transport.write(b"250 OK\r\n")
                continue
            line, ended, rest = self._buffer.partition(b"\r\n")
            if not ended:
                return
            self._buffer = rest
            self._transport.write(ANSWERS.get(line[:4].upper(), b"502 no\r\n"))
            self._in_data = line[:4].upper() == b"DATA"


async def main(port):
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
