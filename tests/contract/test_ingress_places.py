"""Places at the door over real sockets: who is slow is thrown out, a crowd is held back, who is honest is served."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from ingress import bodies, connections, publisher
from ingress.publisher import Publisher
from shared import clock, errors, settings
from shared.kafka.records import Record
from tests.support import corpus
from tests.support.builders import Sale, bytes_of
from tests.support.door import opened
from tests.support.waiting import until


@pytest.fixture
async def quick(monkeypatch):
    """Deadlines of a fraction of a second, so that a test need not wait."""
    monkeypatch.setattr(connections, "HEAD_SECONDS_MAX", 0.2)
    monkeypatch.setattr(connections, "UNREAD_SECONDS_MAX", 0.2)
    monkeypatch.setattr(connections, "HEAD_BYTES_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(connections, "CHECK_EVERY_SECONDS", 0.05)


@asynccontextmanager
async def connected(door):
    host, _, port = door.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader):
    """Wait until the other side has ended the connection; give what it said before."""
    heard = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            while part := await reader.read(65_536):
                heard += part
    return heard


HEAD = b"POST /payment/webhook HTTP/1.1\r\nHost: door\r\n"
SLOW = {
    "nothing": [b""],
    "a letter": [b"P"],
    "half a head": [HEAD],
    "a header now and then": [HEAD, *[b"X: x\r\n"] * 30],
    "a head without end": [HEAD, *[b"X: " + b"x" * 4000 + b"\r\n"] * 30],
    "a second head after an answer": [corpus.request(b"", signed=False, method=b"GET").replace(b"close", b"keep-alive"), HEAD],
}


@pytest.mark.parametrize("said", SLOW.values(), ids=SLOW.keys())
async def test_who_does_not_come_to_the_point_is_thrown_out(database, quick, said):
    """The connection is closed, and its place is free again."""
    async with opened(database) as door:
        async with connected(door) as (reader, writer):
            sending = asyncio.create_task(trickle(writer, said))
            await ended(reader)
            await sending
        await until(lambda: is_empty(door), "the place is free", deadline_seconds=5)
        assert (await door.deliver(bytes_of(Sale().succeeded())))[0] == 200


async def trickle(writer, parts):
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)


async def is_empty(door):
    return len(door.everybody) == 0


async def test_the_rest_of_a_body_after_its_answer_is_no_slow_head(database, monkeypatch):
    """An answer that waits for no body may overtake it; the connection then rests, and is not ended under its next request."""
    heard, receive = [], connections.Connection.data_received

    def noted(connection, data):
        receive(connection, data)
        heard.append((connection, data))

    monkeypatch.setattr(connections.Connection, "data_received", noted)
    async with opened(database) as door, connected(door) as (reader, writer):
        writer.write(b"POST /payment/checkout HTTP/1.1\r\nHost: door\r\nContent-Length: 2\r\n\r\n")
        assert b" 401 " in await reader.readuntil(b"}")
        writer.write(b"{}")
        await until(lambda: heard[-1][1] == b"{}", "the body has come", deadline_seconds=5)
        [(held, _), _] = heard

        assert held.fault(clock.monotonic() + connections.HEAD_SECONDS_MAX + 1) is None


async def test_who_does_not_read_is_thrown_out(database, quick):
    """Asking for a large page again and again without reading holds nothing for long."""
    async with opened(database) as door, connected(door) as (_, writer):
        writer.transport.pause_reading()
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: door\r\n\r\n"
        for _ in range(2_000):
            writer.write(asked)
        await until(lambda: is_empty(door), "the place is free", deadline_seconds=20)


async def test_a_second_too_many_of_one_address_is_refused(database):
    """Others are served, and so is the address again when one of it has left."""
    async with opened(database, ingress_connections_per_address_max=2) as door:
        async with connected(door) as (first, _), connected(door) as (_, writer), connected(door) as (third, _):
            assert await ended(third) == b""
            assert not first.at_eof()
            writer.write(corpus.request(signed=False).replace(b"close", b"keep-alive"))
        await until(lambda: is_empty(door), "the places are free", deadline_seconds=5)
        assert (await door.deliver(bytes_of(Sale().succeeded())))[0] == 200


async def test_when_all_places_are_taken_the_silent_one_makes_room(database, monkeypatch):
    """A flood of connections keeps nobody honest out, whoever of it takes the place that became free."""
    # A door that is late sends away who comes, by design: a machine that stands still for a moment must not look like one.
    monkeypatch.setattr(connections, "LATE_SECONDS", 60.0)
    monkeypatch.setattr(connections, "HEAD_SECONDS_MAX", 60.0)
    async with opened(database, ingress_connections_max=16) as door, asyncio.TaskGroup() as flood:
        gone = []
        held = [flood.create_task(silent(door, gone)) for _ in range(40)]
        for served in range(10):
            # Among those who come in one moment nobody could tell who is honest: it comes when all places are taken.
            await until(lambda n=24 + served: len(door.everybody) == 16 and len(gone) == n, "the silent have every place")
            assert (await door.deliver(bytes_of(Sale().succeeded()), Connection="close"))[0] == 200
            await until(lambda: len(door.everybody) == 15, "who was served has left")
            held.append(flood.create_task(silent(door, gone)))
        for one in held:
            one.cancel()


async def silent(door, gone):
    async with connected(door) as (reader, _):
        with suppress(ConnectionError):
            await reader.read()
        gone.append(reader)
        await asyncio.Event().wait()  # holds on to what the door has let go


async def test_the_oldest_slow_body_makes_room_for_the_next(database, monkeypatch):
    """Thousands of slow large bodies do not fill the memory: the first is told that its time is over, honest webhooks pass."""
    monkeypatch.setattr(bodies, "ARRIVING_BYTES_MAX", 200_000)
    head = HEAD + b"Stripe-Signature: " + corpus.UNSIGNED + b"\r\nContent-Length: 200000\r\n\r\n"
    async with opened(database) as door, connected(door) as (first, one), connected(door) as (second, other):
        one.write(head + b"x" * 120_000)
        await until(lambda: holds(100_000), "the first is held", deadline_seconds=5)
        other.write(head + b"x" * 120_000)

        async with asyncio.timeout(bodies.READ_SECONDS_MAX / 2):
            assert b" 408 " in await first.readline()
        assert (await door.deliver(bytes_of(Sale().succeeded())))[0] == 200
        assert not second.at_eof()
        other.transport.abort()
        await until(lambda: holds(0, exactly=True), "what was held is given back", deadline_seconds=5)


async def holds(bytes_min, *, exactly=False):
    held = bodies.ARRIVING.bytes
    return held == 0 if exactly else held >= bytes_min


async def test_of_those_who_do_not_read_only_some_may_stay(database, monkeypatch):
    """Beyond so many nobody waits until the time for reading is over."""
    monkeypatch.setattr(connections, "UNREAD_CONNECTIONS_MAX", 0)
    monkeypatch.setattr(connections, "UNREAD_SECONDS_MAX", 3600)
    async with opened(database) as door, connected(door) as (_, writer):
        writer.transport.pause_reading()
        for _ in range(2_000):
            writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: door\r\n\r\n")
        await until(lambda: is_empty(door), "the place is free", deadline_seconds=20)


class Standing:
    """A producer whose Kafka stands still until it is told."""

    def __init__(self):
        self.moves = asyncio.Event()

    async def publish(self, records, *, deadline_seconds):
        await self.moves.wait()


@pytest.mark.parametrize(("limit", "value"), [("WAITING_RECORDS_MAX", 3), ("WAITING_BYTES_MAX", 3 * 1000)])
async def test_what_waits_for_kafka_is_bounded(monkeypatch, limit, value):
    """Who comes when the buffer is full is told at once; when Kafka moves, all who waited are taken."""
    monkeypatch.setattr(publisher, limit, value)
    door = Publisher(settings.Kafka(_env_file=None, kafka_bootstrap_servers="127.0.0.1:9"), "x")
    door._producer = Standing()
    record = Record("x", b"key", b"v" * 1000, ())
    waiting = [asyncio.create_task(door.publish([record], deadline_seconds=5)) for _ in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(errors.KafkaAway, match="too much"):
        await door.publish([record], deadline_seconds=5)
    door._producer.moves.set()
    await asyncio.gather(*waiting)
    await door.publish([record], deadline_seconds=5)


async def test_a_request_over_an_idle_connection_is_answered_while_we_leave(database):
    """Whoever is just writing to us is heard, told that this was the last answer, and then the door is closed."""
    async with opened(database) as door, connected(door) as (reader, writer):
        sent = corpus.request(bytes_of(Sale().succeeded()), signed=False).replace(b"close", b"keep-alive")
        writer.write(sent)
        assert b" 400 " in await reader.readuntil(b"}")
        leaving = asyncio.create_task(door.everybody.drained(seconds_max=5))
        await asyncio.sleep(0)
        writer.write(sent)
        heard = await ended(reader)
        await leaving

        assert b" 400 " in heard
        assert b"connection: close" in heard.lower()
        assert len(door.everybody) == 0
