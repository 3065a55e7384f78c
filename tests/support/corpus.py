"""What strangers and signed troublemakers send to the webhook, as tables: a name, and the bytes.

`HEADERS` are signature headers over an honest body, `BODIES` ways to frame or encode one, `REQUESTS` whole requests that are
odd as HTTP; none of them may be answered 2xx or 5xx. `SIGNED` are bodies under a good signature: taken only when stored, and
then the consumer's to judge.
"""

import functools
import hmac
import json
import struct
import time
import zlib

from tests.support.builders import Sale, bytes_of, stripe_event

SECRET = "whsec_" + "d" * 32
HONEST = b'{"id":"evt_corpus","object":"event","type":"x","created":1}'
KIB = 1024
BODY_BYTES_MAX = 256 * KIB
UNSIGNED = b"t=1,v1=" + b"0" * 64


def mac(body, *, moment, secret=SECRET):
    """The hexadecimal HMAC of a body whose header will say `moment` (bytes) as its t."""
    return hmac.digest(secret.encode(), moment + b"." + body, "sha256").hex().encode()


def signature(body, *, moment=None, secret=SECRET):
    """A good header for a body."""
    moment = b"%d" % time.time() if moment is None else moment
    return b"t=" + moment + b",v1=" + mac(body, moment=moment, secret=secret)


def request(body=HONEST, *, headers=(), signed=True, length=True, target=b"/payment/webhook", method=b"POST", version=b"1.1"):
    """A request as bytes, which ends its connection. `signed` may be the value of the header, or False for none."""
    lines = [method + b" " + target + b" HTTP/" + version, b"Host: door", b"Connection: close"]
    if signed:
        lines.append(b"Stripe-Signature: " + (signature(body) if signed is True else signed))
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, *headers, b"", b""]) + body


def chunked(*parts, headers=()):
    """A request whose body is these bytes, said to be chunked; unsigned, since the framing is what is tried."""
    return request(
        b"",
        headers=[b"Transfer-Encoding: chunked", *headers],
        length=False,
        signed=UNSIGNED,
    ) + b"".join(parts)


def with_t(t):
    """A header over HONEST whose t is these bytes, signed just so."""
    return signature(HONEST, moment=t)


def digits(moment, zero):
    """The same number in the digits of another script, whose zero is given."""
    return "".join(chr(ord(zero) + digit - ord("0")) for digit in moment).encode()


def headers():
    """Signature headers that are none of Stripe's, or not of this moment."""
    now = int(time.time())
    moment = b"%d" % now
    good = mac(HONEST, moment=moment)
    said = b"t=" + moment
    return {
        "empty": b"",
        "t only": said,
        "v1 only": b"v1=" + good,
        "v0 only": said + b",v0=" + good,
        "two t": said + b"," + said + b",v1=" + good,
        "two t that differ": b"t=1," + said + b",v1=" + good,
        "t empty": b"t=,v1=" + mac(HONEST, moment=b""),
        "t negative": with_t(b"-" + moment),
        "t with a plus": with_t(b"+" + moment),
        "t with an underscore": with_t(moment[:1] + b"_" + moment[1:]),
        "t with a leading zero": with_t(b"0" + moment),
        "t in Arabic digits": with_t(digits(moment, "\u0660")),
        "t in full-width digits": with_t(digits(moment, "\uff10")),
        "t of 5,000 digits": with_t(b"9" * 5000),
        "t a float": with_t(moment + b".0"),
        "t with an exponent": with_t(b"1e10"),
        "t in hexadecimal": with_t(b"0x%x" % now),
        "t infinite": with_t(b"inf"),
        "t 301 s ago": with_t(b"%d" % (now - 302)),
        "t 301 s ahead": with_t(b"%d" % (now + 303)),
        "t ten years ahead": with_t(b"%d" % (now + 10 * 365 * 86_400)),
        "t zero": with_t(b"0"),
        "t in milliseconds": with_t(b"%d" % (now * 1000)),
        "v1 empty": said + b",v1=",
        "v1 upper case": said + b",v1=" + good.upper(),
        "v1 of 63": said + b",v1=" + good[:63],
        "v1 of 65": said + b",v1=" + good + b"0",
        "v1 zeroes": said + b",v1=" + b"0" * 64,
        "v1 off by a bit": said + b",v1=" + (b"1" if good[:1] == b"0" else b"0") + good[1:],
        "v1 not ASCII": said + b",v1=" + "é".encode() * 32,
        "v1 bytes that are no text": said + b",v1=" + b"\xff\xfe" * 32,
        "v1 surrogates": said + b",v1=" + b"\xed\xa0\x80" * 21,
        "v1 in base64": said + b",v1=" + b"q" * 43 + b"=",
        "V1": said + b",V1=" + good,
        "NUL": said + b"\x00,v1=" + good,
        "a tab": said + b",\tv1=" + good,
        "spaces": b"t = " + moment + b", v1 = " + good,
        "semicolon": said + b";v1=" + good,
        "quoted": b'"' + said + b",v1=" + good + b'"',
        "quoted values": b't="' + moment + b'",v1="' + good + b'"',
        "a comma at the end": said + b",v1=" + good + b",",
        "10,000 signatures": said + b",v1=0" * 10_000,
        "17 signatures, the last good": said + (b",v1=" + b"0" * 64) * 16 + b",v1=" + good,
        "16 KiB": said + b",v1=" + good + b",x=" + b"a" * 16 * KIB,
        "folded": said + b",\r\n v1=" + good,
        "a bare CR": said + b",\rv1=" + good,
        "a bare LF": said + b",\nv1=" + good,
        "split by CRLF": said + b"\r\nStripe-Signature: v1=" + good,
        "of another body": signature(HONEST + b" "),
        "of an empty secret": b"t=" + moment + b",v1=" + hmac.digest(b"", moment + b"." + HONEST, "sha256").hex().encode(),
        "of the secret without its prefix": signature(HONEST, secret=SECRET.removeprefix("whsec_")),
        "of another secret": signature(HONEST, secret="whsec_" + "e" * 32),
        "template": b"{{t}},{{v1}}",
        "format": b"t=%s,v1=%s%n%n",
    }  # fmt: skip


CL = b"Content-Length: "
TE = b"Transfer-Encoding: "
HONEST_CHUNK = b"%x\r\n" % len(HONEST) + HONEST + b"\r\n"


@functools.cache
def bomb():
    """Some kilobytes of gzip that are 64 MB inside: one packed megabyte, again and again."""
    packer, megabytes, megabyte = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), 64, bytes(KIB * KIB)
    packed = packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH)  # after which nothing refers to what came before
    checksum = functools.reduce(lambda so_far, _: zlib.crc32(megabyte, so_far), range(megabytes), 0)
    head, end = b"\x1f\x8b\x08" + bytes(6) + b"\xff", b"\x03\x00"
    return head + packed * megabytes + end + struct.pack("<II", checksum, megabytes * len(megabyte))


def bodies():
    """Bodies of the wrong length, framing or coding; those that could be taken bear a good signature."""
    utf16, bom = HONEST.decode().encode("utf-16"), b"\xef\xbb\xbf" + HONEST
    large = b'{"id":"evt_1","x":"' + b"a" * (BODY_BYTES_MAX - 20) + b'"}'
    return {
        "empty": request(b""),
        "256 KiB and one": request(large[: BODY_BYTES_MAX + 1]),
        "256 KiB and one, in chunks": chunked(*[b"10000\r\n" + bytes(64 * KIB) + b"\r\n"] * 4, b"1\r\nx\r\n0\r\n\r\n"),
        "99 MB declared": request(length=False, headers=[CL + b"99000000"]) + b"x" * 70_000,
        "99 MB declared and expected": request(b"", length=False, headers=[CL + b"99000000", b"Expect: 100-continue"]),
        "2^64 declared": request(b"", length=False, headers=[CL + b"18446744073709551616"]),
        "length short": request(length=False, headers=[CL + b"10"]),
        "length negative": request(length=False, headers=[CL + b"-1"]),
        "length with a plus": request(length=False, headers=[CL + b"+%d" % len(HONEST)]),
        "length hexadecimal": request(length=False, headers=[CL + b"0x%x" % len(HONEST)]),
        "length a list": request(length=False, headers=[CL + b"%d, %d" % (len(HONEST), len(HONEST))]),
        "length twice": request(headers=[CL + b"%d" % len(HONEST)]),
        "lengths that differ": request(headers=[CL + b"1"]),
        "length empty": request(length=False, headers=[CL]),
        "length in Arabic digits": request(length=False, headers=[CL + digits(b"12", "\u0660")]),
        "length and chunks": request(headers=[TE + b"chunked"]),
        "chunks and length, the end smuggles": chunked(b"0\r\n\r\n", request(), headers=[CL + b"5"]),
        "chunks inside chunks": chunked(HONEST_CHUNK, b"0\r\n\r\n", headers=[TE + b"chunked"]),
        "chunked, then identity": request(length=False, headers=[TE + b"chunked, identity"]),
        "coded, not chunked": request(length=False, headers=[TE + b"gzip"]),
        "coding unknown": request(length=False, headers=[TE + b"xchunked"]),
        "coding with a vertical tab": request(length=False, headers=[TE + b"\x0bchunked"]),
        "a space before the colon": request(length=False, headers=[b"Transfer-Encoding : chunked"]),
        "chunks in HTTP/1.0": request(b"", length=False, headers=[TE + b"chunked"], version=b"1.0") + b"ZZ\r\n",
        "chunk size ZZ": chunked(b"ZZ\r\nx\r\n0\r\n\r\n"),
        "chunk size -1": chunked(b"-1\r\nx\r\n0\r\n\r\n"),
        "chunk size +1": chunked(b"+1\r\nx\r\n0\r\n\r\n"),
        "chunk size 0x1": chunked(b"0x1\r\nx\r\n0\r\n\r\n"),
        "chunk size 2^63": chunked(b"8000000000000000\r\nx\r\n"),
        "chunk size 2^64": chunked(b"10000000000000000\r\nx\r\n"),
        "chunk size of 5,000 digits": chunked(b"0" * 5000 + b"1\r\nx\r\n0\r\n\r\n"),
        "chunk size empty": chunked(b"\r\nx\r\n0\r\n\r\n"),
        "chunk longer than its size": chunked(b"1\r\nxx\r\n0\r\n\r\n"),
        "chunk lines with LF alone": chunked(b"1\nx\n0\n\n"),
        "chunk extension of 9 kB": chunked(b"1;" + b"a" * 9000 + b"\r\nx\r\n0\r\n\r\n"),
        "chunk extension with LF": chunked(b"1;a\nb\r\nx\r\n0\r\n\r\n"),
        "10,000 trailers": chunked(b"0\r\n", b"a: b\r\n" * 10_000, b"\r\n"),
        "a signature among the trailers": request(b"", signed=False, length=False, headers=[TE + b"chunked"])
        + HONEST_CHUNK + b"0\r\nStripe-Signature: " + signature(HONEST) + b"\r\n\r\n",
        "an unknown expectation": request(headers=[b"Expect: 200-ok"]),
        "gzip": request(zlib.compress(HONEST, wbits=31), headers=[b"Content-Encoding: gzip"]),
        "deflate": request(zlib.compress(HONEST), headers=[b"Content-Encoding: deflate"]),
        "br": request(HONEST, headers=[b"Content-Encoding: br"]),
        "zstd": request(HONEST, headers=[b"Content-Encoding: zstd"]),
        "two codings": request(HONEST, headers=[b"Content-Encoding: gzip, identity"]),
        "a bomb of 64 MB": request(bomb(), headers=[b"Content-Encoding: gzip"]),
        "a broken gzip": request(b"\x1f\x8b\x08broken", headers=[b"Content-Encoding: gzip"]),
        "gzip as a transfer coding": chunked(HONEST_CHUNK, b"0\r\n\r\n", headers=[TE + b"gzip, chunked"]),
        "UTF-16": request(utf16),
        "UTF-32": request(HONEST.decode().encode("utf-32")),
        "BOM": request(bom),
        "overlong UTF-8": request(HONEST[:-1] + b',"x":"\xc0\xaf"}'),
        "surrogates in UTF-8": request(HONEST[:-1] + b',"x":"\xed\xa0\x80"}'),
    }  # fmt: skip


def requests():
    """Whole requests that are odd as HTTP, none of them signed; a good one may hide inside."""
    unsigned = {"signed": UNSIGNED}
    return {
        **{f"method {method.decode()}": request(method=method) for method in (b"GET", b"PUT", b"PATCH", b"DELETE", b"TRACE")},
        "method CONNECT": request(method=b"CONNECT", target=b"door:443"),
        "method in lower case": request(method=b"post", **unsigned),
        "method of 5 kB": request(method=b"P" * 5000),
        "method with NUL": request(method=b"PO\x00ST"),
        "no signature": request(signed=False),
        "two signatures": request(headers=[b"Stripe-Signature: " + signature(HONEST)]),
        "two signatures, one in other letters": request(headers=[b"STRIPE-SIGNATURE: x"]),
        "a signature with an underscore": request(signed=False, headers=[b"Stripe_Signature: " + signature(HONEST)]),
        **{
            f"type {kind.decode() or 'empty'}": request(headers=[b"Content-Type: " + kind], **unsigned)
            for kind in (b"text/plain", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"")
        },
        "two types": request(headers=[b"Content-Type: text/plain", b"Content-Type: application/json"], **unsigned),
        "a form": request(b"id=evt_1&object=event", headers=[b"Content-Type: application/x-www-form-urlencoded"]),
        "a good one behind chunks in HTTP/1.0": b"POST /payment/webhook HTTP/1.0\r\nConnection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + request(method=b"GET", target=b"/docs"),
        "h2c": request(headers=[b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"], **unsigned),
        "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(27),
        "a websocket": request(headers=[b"Upgrade: websocket", b"Sec-WebSocket-Key: x"], **unsigned),
        "absolute URI": request(target=b"http://door/payment/webhook", **unsigned),
        "absolute URI of another": request(target=b"http://evil.example/payment/webhook", **unsigned),
        "absolute URI with userinfo": request(target=b"http://a:b@door/payment/webhook", **unsigned),
        "absolute URI whose host is no name": request(target=b"http://xn--/payment/webhook", **unsigned),
        "an authority that is no name": request(method=b"CONNECT", target=b"xn--:80"),
        **{
            f"target {target.decode()}": request(target=target)
            for target in (
                b"//payment//webhook", b"/payment/webhook/", b"/payment/webhook%00", b"/payment/../payment/webhook/x",
                b"/Payment/webhook", b"/payment/webhook;x", b"/payment/%77ebhoo", b"*",
            )
        },
        "a target with a space": request(target=b"/payment/webhook HTTP/1.1 x"),
        "a target of 9 kB": request(target=b"/" + b"a" * 9000),
        "a target with NUL": request(target=b"/payment/web\x00hook"),
        "a query": request(target=b"/payment/webhook?x=1", **unsigned),
        "HTTP/0.9": b"GET /payment/webhook\r\n\r\n",
        "HTTP/1.2": request(version=b"1.2", **unsigned),
        "HTTP/3.0": request(version=b"3.0"),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\r\n\r\n",
        "SSH": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "no HTTP": bytes(range(256)) * 4 + b"\r\n\r\n",
        "bare LF": request(**unsigned).replace(b"\r\n", b"\n"),
        "bare CR": b"POST /payment/webhook HTTP/1.1\rHost: door\r\n\r\n",
        "a folded header": request(headers=[b"X: a\r\n b"]),
        "a first header that is folded": b"POST /payment/webhook HTTP/1.1\r\n Host: door\r\n\r\n",
        "a header without a colon": request(headers=[b"X"]),
        "a header without a name": request(headers=[b": x"]),
        "a header with a space in its name": request(headers=[b"X Y: x"]),
        "a header with NUL": request(headers=[b"X: a\x00b"]),
        "a header of 16 KiB": request(headers=[b"X: " + b"a" * 16 * KIB]),
        "1,000 headers": request(headers=[b"X%d: x" % n for n in range(1000)]),
        "a header's name of 16 KiB": request(headers=[b"X" * 16 * KIB + b": x"]),
        "a good one behind a short length": request(request(), signed=UNSIGNED, length=False, headers=[CL + b"0"]),
        "a good one behind a GET with a body": request(request(), method=b"GET", target=b"/nothing"),
    }  # fmt: skip


def signed(sale=None):
    """Bodies for a good signature that no good event looks like; they speak of this sale, or of one that nobody knows."""
    sale = sale or Sale()
    intent = sale.succeeded()["data"]["object"]

    def event(**changes):
        return bytes_of(stripe_event("payment_intent.succeeded", intent | changes))

    def envelope(rest):
        made = json.dumps(sale.succeeded())[:-1]
        return made.encode() + b"," + rest + b"}"

    def text(hostile):
        odd = {key: hostile if isinstance(value, str) and key != "object" else value for key, value in intent.items()}
        return bytes_of(stripe_event("payment_intent.succeeded", odd | {"metadata": dict.fromkeys(sale.metadata, hostile)}))

    return {
        "a list": b"[1]",
        "null": b"null",
        "a string": b'"evt_1"',
        "a number": b"1",
        "an object": b"{}",
        "two values": HONEST + HONEST,
        "NaN": envelope(b'"x":NaN'),
        "Infinity": envelope(b'"x":-Infinity'),
        "1e999": envelope(b'"x":1e999'),
        "5,000 digits": envelope(b'"x":' + b"9" * 5000),
        "depth 100,000": envelope(b'"x":' + b"[" * 100_000 + b"]" * 100_000),
        "depth 1,000": envelope(b'"x":' + b'{"a":' * 1_000 + b"1" + b"}" * 1_000),
        "id twice": envelope(b'"id":"evt_another"'),
        "data twice": envelope(b'"data":{"object":{}}'),
        "a lone surrogate": envelope(b'"x":"\\ud800"'),
        "NUL in a string": envelope(b'"x":"\\u0000"'),
        "id with NUL": b'{"id":"evt_\\u0000","object":"event","type":"x","created":1}',
        "id of 5 kB": b'{"id":"evt_' + b"a" * 5000 + b'","object":"event","type":"x","created":1}',
        "id of another kind": b'{"id":"pi_1","object":"event","type":"x","created":1}',
        "no type": b'{"id":"evt_notype","object":"event","created":1}',
        "type a list": b'{"id":"evt_listtype","object":"event","type":["x"],"created":1}',
        "type of 5 kB": b'{"id":"evt_longtype","object":"event","type":"' + b"x" * 5000 + b'","created":1}',
        "created in the year 10^12": b'{"id":"evt_late","object":"event","type":"charge.refunded","created":30000000000000}',
        "created negative": b'{"id":"evt_early","object":"event","type":"charge.refunded","created":-99999999999999}',
        "created a string": b'{"id":"evt_text","object":"event","type":"charge.refunded","created":"now"}',
        "another object": bytes_of(sale.succeeded() | {"object": "payment_intent"}),
        "no data": bytes_of(sale.succeeded() | {"data": None}),
        "thin": bytes_of(sale.succeeded() | {"object": "v2.core.event"}),
        "unknown type": bytes_of(stripe_event("something.new", intent)),
        "future version": bytes_of(stripe_event("payment_intent.succeeded", intent, api_version="2099-01-01.kraken")),
        "livemode a string": bytes_of(sale.succeeded() | {"livemode": "no"}),
        "amount a string": event(amount_received="7500"),
        "amount a float": event(amount_received=75.5),
        "amount negative": event(amount_received=-7500),
        "amount 2^63": event(amount_received=2**63),
        "amount zero": event(amount_received=0),
        "amount null": event(amount_received=None, amount=None),
        "currency unknown": event(currency="zzz"),
        "currency a number": event(currency=1),
        "currency of 5 kB": event(currency="u" * 5000),
        "metadata missing": event(metadata={}),
        "metadata null": event(metadata=None),
        "metadata a list": event(metadata=[1]),
        "metadata no UUID": event(metadata={"payment_id": "1; drop table payments", "booking_id": "x"}),
        "metadata of nobody": event(metadata=Sale().metadata),
        "metadata of 200 kB": event(metadata={"payment_id": "x" * 200_000}),
        "script in every string": text("<script>alert(1)</script>"),
        "CRLF in every string": text("a\r\nBcc: everybody@example.com"),
        "template in every string": text("{{ 7*7 }}${7*7}%s%n"),
        "bidi in every string": text("\u202egnp\u2066"),
        "NUL in every string": text("\x00"),
    }
