"""The webhook's address as HTTP: what is crooked is refused, and no other method, spelling or browser gets in."""

import json

import pytest

from tests.support.builders import Sale, bytes_of
from tests.support.door import HEAD, first_line, signed, talk

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
async def test_crooked_http_is_refused_or_closed(door_alone, sent):
    """4xx or a closed connection, at once; never 2xx, never 5xx."""
    answered = await first_line(door_alone.url, sent)

    assert answered == b"" or answered.split(b" ")[1].startswith(b"4"), answered
    assert door_alone.publisher.records == []


@pytest.mark.parametrize("path", [b"POST /payment/checkout", b"GET /payment/1", b"POST /payment/webhook", b"GET /nowhere"])
async def test_who_expects_what_nobody_knows_hears_a_problem_like_any_other(door_alone, path):
    """aiohttp refuses it before any middleware is asked, in plain text that repeats what was expected."""
    answered = await talk(door_alone.url, path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: moon\r\n\r\n")
    head, _, body = answered.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert json.loads(body)["code"] == "no_http"
    assert b"moon" not in answered


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_who_asks_for_another_protocol_hears_that_the_connection_ends(door_alone, protocol, body):
    """aiohttp forgets what stands behind such a request, or takes its second half for a request: it is the last one."""
    asked = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol
    behind = b"POST /payment/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    answered = await talk(door_alone.url, asked + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body + behind)

    assert answered.startswith(b"HTTP/1.1 404 ")
    assert answered.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answered


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"])
async def test_other_methods_are_not_known(door_alone, method):
    """405 with the method that is."""
    async with door_alone.http.request(method, "/payment/webhook") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["//payment//webhook", "/payment/webhook/", "/payment/../payment/webhook/x", "/Payment/webhook"]
)
async def test_other_spellings_are_other_addresses(door_alone, path):
    """404: a redirect would be a failure to Stripe, and a second name a second door."""
    sent = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    assert (await talk(door_alone.url, sent)).startswith(b"HTTP/1.1 404 ")


async def test_no_browser_is_told_of_the_webhook(door_alone):
    """CORS never speaks of it."""
    body = bytes_of(Sale().succeeded())
    headers = {"Stripe-Signature": signed(body), "Origin": "https://app.culturebridge.com"}

    for method, status in (("POST", 200), ("OPTIONS", 405), ("GET", 405)):
        asked = headers | {"Access-Control-Request-Method": "POST"}
        async with door_alone.http.request(method, "/payment/webhook", data=body, headers=asked) as answer:
            assert answer.status == status
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
