"""POST /payment/webhook over real sockets: one suite, against a Kafka of the test's own and the real one."""

import asyncio
import gzip
import hmac
import json
import time
import zlib

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer

from ingress import bodies, webhook
from ingress.publisher import Publisher
from shared import topics
from shared.kafka import provision
from shared.kafka.records import Record
from tests.builders import Sale, bytes_of, stripe_event
from tests.door import WEBHOOK_SECRET, FakePublisher, opened, signed
from tests.waiting import until


class RealPublisher(Publisher):
    """The real way to Kafka, and a reader that starts at the beginning of the topic."""

    def __init__(self, kafka):
        super().__init__(kafka, topics.STRIPE_EVENTS.named(kafka.topic_prefix))
        self.kafka = kafka

    async def read(self):
        """Everything that is in the topic now."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=list(self.kafka.kafka_bootstrap_servers), auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.subscribe([self._topic])
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
            ends = await consumer.end_offsets(consumer.assignment())
            await consumer.seek_to_beginning()
            found = []
            while len(found) < sum(ends.values()):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Record(r.topic, r.key, r.value, r.headers) for r in batch]
            return found
        finally:
            await consumer.stop()


@pytest.fixture(params=["fake", "real"])
async def door(request, database, kafka):
    if request.param == "fake":
        async with opened(database, publisher=FakePublisher(), topic_prefix=kafka.topic_prefix) as made:
            yield made
        return
    await provision.apply(kafka)
    publisher = RealPublisher(kafka)
    async with publisher.reaching(), opened(database, publisher=publisher, topic_prefix=kafka.topic_prefix) as made:
        await until(lambda: is_ready(publisher), "Kafka is reached")
        yield made


@pytest.fixture
async def small(database):
    """A door with a Kafka of the test's own, for what never gets as far as Kafka."""
    async with opened(database) as made:
        yield made


async def test_a_publisher_whose_producer_died_is_not_ready_although_kafka_answers(kafka):
    """Nobody sends webhooks where none can be taken, and the reason is told."""
    await provision.apply(kafka)
    publisher = RealPublisher(kafka)
    async with publisher.reaching():
        await until(lambda: is_ready(publisher), "Kafka is reached", deadline_seconds=20)
        assert publisher.fault is None
        publisher._producer._client._sender.sender_task.cancel()
        await until(lambda: is_dead(publisher), "its end is noticed", deadline_seconds=5)

        assert await publisher._producer.answers(publisher._topic)
        assert await publisher.trouble() == [publisher.fault] == ["the producer's sender task ended"]


async def is_ready(publisher):
    return not await publisher.trouble()


async def is_dead(publisher):
    return publisher.fault is not None


async def test_the_exact_bytes_are_published_before_the_answer(door, kafka):
    """200 accepted means Kafka has what Stripe signed, byte by byte, keyed by its id, with the headers that travel."""
    event = Sale().succeeded()
    body = b"\n" + bytes_of(event | {"note": "caf\u00e9 \u2603"}) + b" \r\n"

    assert await door.deliver(body) == (200, {"status": "accepted"})

    [record] = await door.publisher.read()
    headers = dict(record.headers)
    assert (record.topic, record.key, record.value) == (f"{kafka.topic_prefix}stripe.events", event["id"].encode(), body)
    assert headers["content-type"] == b"application/json"
    assert headers["correlation_id"] == event["id"].encode()
    assert webhook.W3C_TRACEPARENT.fullmatch(headers["traceparent"])


async def test_a_second_delivery_says_so_and_is_published_all_the_same(door):
    """A resend heals: the answer tells what this process remembers, the inbox is the truth behind it."""
    body = bytes_of(Sale().succeeded())

    first = await door.deliver(body)
    second = await door.deliver(body)

    assert (first, second) == ((200, {"status": "accepted"}), (200, {"status": "already_processed"}))
    assert [record.value for record in await door.publisher.read()] == [body, body]


async def test_a_hundred_at_once_are_each_published_once(door):
    """Nothing is mixed up or lost among deliveries of the same moment."""
    sent = [bytes_of(Sale().succeeded()) for _ in range(100)]

    answers = await asyncio.gather(*(door.deliver(body) for body in sent))

    assert {status for status, _ in answers} == {200}
    assert sorted(record.value for record in await door.publisher.read()) == sorted(sent)


async def test_a_trace_of_the_proxy_is_carried_on(small):
    """Whoever stands in front of us may have begun the trace."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    await small.deliver(bytes_of(Sale().succeeded()), traceparent=trace)
    await small.deliver(bytes_of(Sale().succeeded()), traceparent="00-no-trace")

    first, second = (dict(record.headers)["traceparent"] for record in small.publisher.records)
    assert first == trace.encode()
    assert webhook.W3C_TRACEPARENT.fullmatch(second)


async def test_without_kafka_it_is_503_and_stripe_comes_again(small):
    """Unsure means never 2xx; what was not acknowledged is not remembered either."""
    body = bytes_of(Sale().succeeded())
    small.publisher.away = True

    async with small.http.post("/payment/webhook", data=body, headers={"Stripe-Signature": signed(body)}) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["code"] == "kafka_unavailable"

    small.publisher.away = False
    assert await small.deliver(body) == (200, {"status": "accepted"})


async def test_the_memory_of_ids_is_bounded(database, monkeypatch):
    """A process that lives long does not grow; the oldest id is forgotten first."""
    monkeypatch.setattr(webhook, "IDS_REMEMBERED_MAX", 2)
    first, second, third = (bytes_of(Sale().succeeded()) for _ in range(3))
    async with opened(database) as door:
        said = [(await door.deliver(body))[1]["status"] for body in (first, second, third, third, first)]

    assert said == ["accepted", "accepted", "accepted", "already_processed", "accepted"]


IGNORED = {
    "live event under a test key": {"livemode": True},
    "thin event": {"object": "v2.core.event"},
    "foreign account": {"account": "acct_other"},
}


@pytest.mark.parametrize("changes", IGNORED.values(), ids=IGNORED.keys())
async def test_foreign_events_are_ignored(database, changes):
    """200, so that Stripe does not insist, and never published."""
    async with opened(database, stripe_account_id="acct_ours") as door:
        answer = await door.deliver(bytes_of(Sale().succeeded() | changes))

        assert answer == (200, {"status": "ignored"})
        assert door.publisher.records == []


@pytest.mark.parametrize("account", [None, "acct_ours", "absent"])
async def test_our_own_account_is_no_foreigner(database, account):
    """Events of one's own account name it or not."""
    event = Sale().succeeded() | ({} if account == "absent" else {"account": account})
    async with opened(database, stripe_account_id="acct_ours") as door:
        assert await door.deliver(bytes_of(event)) == (200, {"status": "accepted"})


async def test_where_no_account_is_set_nobody_is_a_foreigner(database):
    """An event that names one would else be taken for somebody's, answered, and lost."""
    async with opened(database) as door:
        event = Sale().succeeded() | {"account": "acct_ours"}
        assert await door.deliver(bytes_of(event)) == (200, {"status": "accepted"})


async def test_unknown_things_are_for_the_consumer_to_judge(small):
    """A signed event of an unknown type, a future version or an odd shape is taken, not refused."""
    odd = [
        stripe_event("something.new", {"id": "x"}),
        stripe_event("payment_intent.succeeded", {}, api_version="2099-01-01.kraken"),
        stripe_event("payment_intent.succeeded", "no object"),
        {"id": "evt_1"},
        {"id": "evt_1", "livemode": "no", "account": 7, "type": ["x"], "object": None},
        {"id": "evt_1", "data": {"object": {"amount": 2**70, "name": "<script>\r\n", "metadata": {"x": "y" * 200_000}}}},
    ]
    for event in odd:
        status, body = await small.deliver(json.dumps(event).encode())
        assert (status, body["status"] in {"accepted", "already_processed"}) == (200, True), event

    assert len(small.publisher.records) == len(odd)


HOSTILE = {
    "a list": b"[1]",
    "null": b"null",
    "a string": b'"evt_1"',
    "a number": b"1",
    "no id": b"{}",
    "id a number": b'{"id": 1}',
    "id null": b'{"id": null}',
    "id of something else": b'{"id": "pi_1"}',
    "id empty": b'{"id": "evt_"}',
    "id with NUL": b'{"id": "evt_\\u0000"}',
    "id with a newline": b'{"id": "evt_1\\n"}',
    "id not ASCII": '{"id": "evt_é"}'.encode(),
    "id of 5 kB": b'{"id": "evt_' + b"a" * 5000 + b'"}',
    "no JSON": b"{",
    "empty": b"",
    "form": b"id=evt_1",
    "depth 100,000": b'{"data":' * 20_000 + b"1" + b"}" * 20_000,
    "UTF-16": '{"id": "evt_1"}'.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + b'{"id": "evt_1"}',
    "invalid UTF-8": b'{"id": "evt_1", "x": "\xff"}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_has_no_usable_id_is_refused_although_signed(small, body):
    """400 with one constant body, and nothing published."""
    moment = int(time.time())
    mac = hmac.digest(WEBHOOK_SECRET.encode(), b"%d." % moment + body, "sha256").hex()

    status, answer = await small.deliver(body, f"t={moment},v1={mac}")

    assert (status, answer["code"] in {"event_invalid", "signature_invalid"}) == (400, True)
    assert small.publisher.records == []


STORED_OR_REFUSED = {
    "NaN": b'{"id": "evt_1", "x": NaN}',
    "Infinity": b'{"id": "evt_1", "x": Infinity}',
    "1e999": b'{"id": "evt_1", "x": 1e999}',
    "5,000 digits": b'{"id": "evt_1", "x": ' + b"9" * 5000 + b"}",
    "duplicate id": b'{"id": "evt_1", "id": "evt_2"}',
    "lone surrogate": b'{"id": "evt_1", "x": "\\ud800"}',
    "NUL": b'{"id": "evt_1", "x": "\\u0000"}',
    "trailing bytes": b'{"id": "evt_1"} x',
}


@pytest.mark.parametrize("body", STORED_OR_REFUSED.values(), ids=STORED_OR_REFUSED.keys())
async def test_a_trap_is_stored_or_refused(small, body):
    """2xx only if the bytes are stored; never 5xx."""
    status, _ = await small.deliver(body)

    assert (status, [record.value for record in small.publisher.records]) in [(200, [body]), (400, [])]


async def test_refusals_are_all_alike(small):
    """Whether the header, the moment or the signature was wrong is nobody's business."""
    body = bytes_of(Sale().succeeded())
    headers = ["t=1", signed(body, at=1), signed(body, secret="whsec_" + "x" * 32), signed(b"{}")]

    answers = [await small.deliver(body, header) for header in [*headers, ""]]

    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 400
    assert answers[0][1]["code"] == "signature_invalid"
    assert small.publisher.records == []


async def test_two_signature_headers_are_refused(small):
    """What a proxy and we may read differently is not read."""
    body = bytes_of(Sale().succeeded())
    headers = [("Stripe-Signature", signed(body)), ("Stripe-Signature", signed(body))]

    async with small.http.post("/payment/webhook", data=body, headers=headers) as answer:
        assert answer.status == 400


async def test_a_bearer_token_neither_helps_nor_hurts(small):
    """The signature alone counts."""
    body = bytes_of(Sale().succeeded())

    assert (await small.deliver(body, "t=1,v1=x", Authorization="Bearer x"))[0] == 400
    assert (await small.deliver(body, Authorization="Bearer x"))[0] == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity"])
async def test_a_content_encoding_is_refused(small, coding):
    """415 before a byte is unpacked."""
    body = bytes_of(Sale().succeeded())
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(coding, body)
    headers = {"Content-Encoding": coding, "Stripe-Signature": signed(body)}

    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{small.url}/payment/webhook", data=packed, headers=headers) as answer,
    ):
        assert answer.status == 415


async def test_a_body_of_exactly_the_limit_is_read(small):
    """262,144 bytes pass, one more does not."""
    room = webhook.BODY_BYTES_MAX - len(b'{"id": "evt_1", "x": ""}')
    body = b'{"id": "evt_1", "x": "' + b"a" * room + b'"}'

    assert (await small.deliver(body))[0] == 200
    assert (await small.deliver(body + b" "))[0] == 413


async def talk(url, *sent):
    """Send raw bytes over one connection; give everything that came back until it was closed."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


HEAD = b"POST /payment/webhook HTTP/1.1\r\nHost: x\r\nStripe-Signature: t=1,v1=x\r\n"
RAW = {
    "99 MB declared": HEAD + b"Content-Length: 99000000\r\n\r\n" + b"x" * 70_000,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length no number": HEAD + b"Content-Length: 1x\r\n\r\nx",
    "length and chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size ZZ": HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n",
    "chunk size -1": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
    "chunk size 2^63": HEAD + b"Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\nx\r\n",
    "chunk extension of 9 kB": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 9000 + b"\r\nx\r\n0\r\n\r\n",
    "10,000 trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    "header of 16 KiB": HEAD + b"X: " + b"a" * 16_384 + b"\r\nContent-Length: 0\r\n\r\n",
    "bare LF": HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a header": HEAD + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("sent", RAW.values(), ids=RAW.keys())
async def test_crooked_http_is_refused_or_closed(small, sent):
    """4xx or a closed connection, at once; never 2xx, never 5xx."""
    answered = await first_line(small.url, sent)

    assert answered == b"" or answered.split(b" ")[1].startswith(b"4"), answered
    assert small.publisher.records == []


async def first_line(url, sent):
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(10):
            return (await reader.readline()).strip()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_declared_length_is_refused_before_reading(small):
    """413 comes while the body is still to come, and the connection is closed."""
    answer = await talk(small.url, HEAD + b"Content-Length: 99000000\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


async def test_a_chunked_body_is_counted_on_its_way(small):
    """413 as soon as the limit is passed, without an end of the chunks."""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    answer = await talk(small.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 5)

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nx", b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"])
async def test_a_body_that_does_not_come_is_given_up(small, monkeypatch, framing):
    """408 after the deadline, and the connection is closed: nobody holds a place for nothing."""
    monkeypatch.setattr(bodies, "READ_SECONDS_MAX", 0.2)

    answer = await talk(small.url, HEAD + framing)

    assert b"HTTP/1.1 408 " in answer
    assert b"body_too_slow" in answer


async def test_one_byte_chunks_are_a_body_too(small):
    """However it is cut, the same bytes have the same signature."""
    body = bytes_of(Sale().succeeded())
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = (
        b"POST /payment/webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nStripe-Signature: "
        + signed(body).encode()
        + b"\r\n\r\n"
    )

    answer = await talk(small.url, head, chunks)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [record.value for record in small.publisher.records] == [body]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"])
async def test_other_methods_are_not_known(small, method):
    """405 with the method that is."""
    async with small.http.request(method, "/payment/webhook") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["//payment//webhook", "/payment/webhook/", "/payment/../payment/webhook/x", "/Payment/webhook"]
)
async def test_other_spellings_are_other_addresses(small, path):
    """404: a redirect would be a failure to Stripe, and a second name a second door."""
    sent = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    assert (await talk(small.url, sent)).startswith(b"HTTP/1.1 404 ")


async def test_no_browser_is_told_of_the_webhook(small):
    """CORS never speaks of it."""
    body = bytes_of(Sale().succeeded())
    headers = {"Stripe-Signature": signed(body), "Origin": "https://app.culturebridge.com"}

    for method, status in (("POST", 200), ("OPTIONS", 405), ("GET", 405)):
        asked = headers | {"Access-Control-Request-Method": "POST"}
        async with small.http.request(method, "/payment/webhook", data=body, headers=asked) as answer:
            assert answer.status == status
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_either_secret_of_a_roll_is_taken(database):
    """Two endpoints, or the old and the new secret."""
    other = "whsec_" + "n" * 32
    body = bytes_of(Sale().succeeded())
    async with opened(database, stripe_webhook_secret=f"{WEBHOOK_SECRET},{other}") as door:
        assert (await door.deliver(body, signed(body)))[0] == 200
        assert (await door.deliver(body, signed(body, secret=other)))[0] == 200
