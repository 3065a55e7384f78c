"""What a webhook's body may be: an event with a usable id, of bounded size, in time, in the clear; nothing else is stored."""

import gzip
import hmac
import time
import zlib

import aiohttp
import pytest

from ingress import bodies, webhook
from tests.support.builders import Sale, bytes_of
from tests.support.door import HEAD, WEBHOOK_SECRET, signed, talk

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
async def test_what_has_no_usable_id_is_refused_although_signed(door_alone, body):
    """400 with one constant body, and nothing published."""
    moment = int(time.time())
    mac = hmac.digest(WEBHOOK_SECRET.encode(), b"%d." % moment + body, "sha256").hex()

    status, answer = await door_alone.deliver(body, f"t={moment},v1={mac}")

    assert (status, answer["code"] in {"event_invalid", "signature_invalid"}) == (400, True)
    assert door_alone.publisher.records == []


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
async def test_a_trap_is_stored_or_refused(door_alone, body):
    """2xx only if the bytes are stored; never 5xx."""
    status, _ = await door_alone.deliver(body)

    assert (status, [record.value for record in door_alone.publisher.records]) in [(200, [body]), (400, [])]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity"])
async def test_a_content_encoding_is_refused(door_alone, coding):
    """415 before a byte is unpacked."""
    body = bytes_of(Sale().succeeded())
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(coding, body)
    headers = {"Content-Encoding": coding, "Stripe-Signature": signed(body)}

    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{door_alone.url}/payment/webhook", data=packed, headers=headers) as answer,
    ):
        assert answer.status == 415


async def test_a_body_of_exactly_the_limit_is_read(door_alone):
    """262,144 bytes pass, one more does not."""
    room = webhook.BODY_BYTES_MAX - len(b'{"id": "evt_1", "x": ""}')
    body = b'{"id": "evt_1", "x": "' + b"a" * room + b'"}'

    assert (await door_alone.deliver(body))[0] == 200
    assert (await door_alone.deliver(body + b" "))[0] == 413


async def test_a_declared_length_is_refused_before_reading(door_alone):
    """413 comes while the body is still to come, and the connection is closed."""
    answer = await talk(door_alone.url, HEAD + b"Content-Length: 99000000\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


async def test_a_chunked_body_is_counted_on_its_way(door_alone):
    """413 as soon as the limit is passed, without an end of the chunks."""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    answer = await talk(door_alone.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 5)

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nx", b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"])
async def test_a_body_that_does_not_come_is_given_up(door_alone, monkeypatch, framing):
    """408 after the deadline, and the connection is closed: nobody holds a place for nothing."""
    monkeypatch.setattr(bodies, "READ_SECONDS_MAX", 0.2)

    answer = await talk(door_alone.url, HEAD + framing)

    assert b"HTTP/1.1 408 " in answer
    assert b"body_too_slow" in answer


async def test_one_byte_chunks_are_a_body_too(door_alone):
    """However it is cut, the same bytes have the same signature."""
    body = bytes_of(Sale().succeeded())
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = (
        b"POST /payment/webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nStripe-Signature: "
        + signed(body).encode()
        + b"\r\n\r\n"
    )

    answer = await talk(door_alone.url, head, chunks)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [record.value for record in door_alone.publisher.records] == [body]
