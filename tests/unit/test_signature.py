"""Is this Stripe, and is it fresh? The stripe library is the oracle of our own verifier."""

import time
from unittest import mock

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from ingress import signature
from ingress.signature import Refused, Verified, verify

SECRET = "whsec_" + "a1B2" * 8
OTHER = "whsec_" + "z9Y8" * 8
NOW = 1_764_000_000
BODY = b'{"id": "evt_1", "object": "event"}'


def signed(body: bytes = BODY, secret: str = SECRET, at: int = NOW) -> bytes:
    return stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at).encode()


def v1(body: bytes = BODY, secret: str = SECRET, at: int = NOW) -> bytes:
    return signed(body, secret, at).partition(b"v1=")[2]


def library_accepts(header: bytes, body: bytes, secrets: list[str], now: float) -> bool:
    with mock.patch.object(time, "time", return_value=now):
        for secret in secrets:
            try:
                if stripe.WebhookSignature.verify_header(body, header.decode(), secret, signature.TOLERANCE_SECONDS):
                    return True
            except (stripe.SignatureVerificationError, UnicodeDecodeError, TypeError):
                continue
    return False


def test_what_stripe_signed_is_verified():
    """A genuine delivery passes."""
    assert Verified() == verify(signed(), BODY, [SECRET.encode()], NOW)


@pytest.mark.parametrize("secrets", [[SECRET, OTHER], [OTHER, SECRET]])
def test_either_secret_passes_during_a_roll(secrets):
    """While a secret is rolled, old and new both open the door, whichever stands first."""
    assert Verified() == verify(signed(), BODY, [secret.encode() for secret in secrets], NOW)


def test_the_second_of_two_signatures_is_enough():
    """Stripe signs once for each active secret; ours may be any of them."""
    header = b"t=%d,v1=%s,v1=%s,v0=%s" % (NOW, v1(secret=OTHER), v1(), b"f" * 64)

    assert Verified() == verify(header, BODY, [SECRET.encode()], NOW)


@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_five_minutes_to_either_side_are_fresh(skew):
    """The tolerance is 300 seconds, into the past and into the future."""
    assert Verified() == verify(signed(at=NOW + skew), BODY, [SECRET.encode()], NOW)


@pytest.mark.parametrize("skew", [-301, 301, -300.001, 300.001, 315_360_000])
def test_older_or_earlier_is_stale(skew):
    """A captured request ages, and a clock far ahead is no licence."""
    assert Refused("stale") == verify(signed(), BODY, [SECRET.encode()], NOW - skew)


def test_one_altered_byte_is_forged():
    """The signature covers every byte."""
    for at in range(len(BODY)):
        altered = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]

        assert Refused("forged") == verify(signed(), altered, [SECRET.encode()], NOW)


def test_one_altered_digit_of_a_signature_is_forged():
    """All of it counts, to its last digit: what is shorter is sooner guessed."""
    genuine = v1()
    for at in range(len(genuine)):
        altered = genuine[:at] + (b"1" if genuine[at : at + 1] == b"0" else b"0") + genuine[at + 1 :]

        assert Refused("forged") == verify(b"t=%d,v1=%s" % (NOW, altered), BODY, [SECRET.encode()], NOW)


def test_a_body_that_is_not_utf8_is_refused():
    """JSON is UTF-8; the library would raise, we refuse."""
    body = b'{"id": "\xff"}'
    genuine = signature.hmac.digest(SECRET.encode(), b"%d.%s" % (NOW, body), "sha256").hex().encode()

    assert Refused("not_utf8") == verify(b"t=%d,v1=%s" % (NOW, genuine), body, [SECRET.encode()], NOW)


GOOD = v1()
CORPUS = {
    "empty": b"",
    "t only": b"t=%d" % NOW,
    "v1 only": b"v1=" + GOOD,
    "v0 only": b"t=%d,v0=%s" % (NOW, GOOD),
    "a moment under another name": b"x=%d,v1=%s" % (NOW, GOOD),
    "two t": b"t=%d,t=%d,v1=%s" % (NOW, NOW, GOOD),
    "a crooked t beside a good one": b"t=now,t=%d,v1=%s" % (NOW, GOOD),
    "a crooked v1 beside a good one": b"t=%d,v1=0,v1=%s" % (NOW, GOOD),
    "negative t": b"t=-%d,v1=%s" % (NOW, GOOD),
    "plus sign": b"t=+%d,v1=%s" % (NOW, GOOD),
    "underscore": b"t=1_764_000_000,v1=" + GOOD,
    "Arabic digits": "t=١٧٦٤٠٠٠٠٠٠,v1=".encode() + GOOD,
    "5,000 digits": b"t=" + b"1" * 5000 + b",v1=" + GOOD,
    "float": b"t=%d.0,v1=%s" % (NOW, GOOD),
    "leading zero": b"t=0%d,v1=%s" % (NOW, GOOD),
    "empty t": b"t=,v1=" + GOOD,
    "upper-case hex": b"t=%d,v1=%s" % (NOW, GOOD.upper()),
    "63 hex": b"t=%d,v1=%s" % (NOW, GOOD[:-1]),
    "65 hex": b"t=%d,v1=%s0" % (NOW, GOOD),
    "non-ASCII": b"t=%d,v1=%s" % (NOW, "é".encode() + GOOD[2:]),
    "surrogate bytes": b"t=%d,v1=%s" % (NOW, b"\xed\xa0\x80" + GOOD[3:]),
    "NUL": b"t=%d,v1=%s\x00" % (NOW, GOOD),
    "tab": b"t=%d,\tv1=%s" % (NOW, GOOD),
    "space": b"t=%d, v1=%s" % (NOW, GOOD),
    "10,000 signatures": b"t=%d" % NOW + (b",v1=" + GOOD) * 10_000,
    "17 signatures": b"t=%d" % NOW + (b",v1=" + GOOD) * 17,
    "16 KiB": b"t=%d,v1=%s,v0=%s" % (NOW, GOOD, b"0" * 16_384),
    "quoted": b't="%d",v1="%s"' % (NOW, GOOD),
    "CRLF": b"t=%d,v1=%s\r\n" % (NOW, GOOD),
    "trailing comma": b"t=%d,v1=%s," % (NOW, GOOD),
    "no equals sign": b"t=%d,v1=%s,v0" % (NOW, GOOD),
    "semicolon": b"t=%d;v1=%s" % (NOW, GOOD),
}


@pytest.mark.parametrize("header", CORPUS.values(), ids=CORPUS.keys())
def test_a_header_outside_the_grammar_is_refused(header):
    """A good signature in a crooked header opens nothing, and nothing raises."""
    assert Refused("header") == verify(header, BODY, [SECRET.encode()], NOW)


def test_sixteen_signatures_are_read():
    """The bound is the bound: the sixteenth signature still counts."""
    header = b"t=%d" % NOW + (b",v1=" + b"0" * 64) * 15 + b",v1=" + GOOD

    assert Verified() == verify(header, BODY, [SECRET.encode()], NOW)


elements = st.one_of(
    st.builds(lambda at: b"t=%d" % at, st.integers(NOW - 400, NOW + 400)),
    st.sampled_from([b"t=%d" % NOW, b"v0=" + b"0" * 64, b"v1=" + b"0" * 64, b"v2=x=y", b"x=", b"t=1_764_000_000", b"t=", b""]),
    st.binary(max_size=8),
)
genuine = st.builds(
    lambda body, secret, at: (b"t=%d" % at, b"v1=" + v1(body, secret, at), body),
    st.text(max_size=40).filter(lambda text: text.isprintable()).map(str.encode),
    st.sampled_from([SECRET, OTHER, "whsec_" + "stranger" * 4]),
    st.integers(NOW - 310, NOW + 310),
)


@given(
    genuine,
    st.lists(elements, max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from([[SECRET], [SECRET, OTHER]]),
    st.floats(0, 1, exclude_max=True),
)
def test_whatever_ours_accepts_the_library_accepts(delivery, more, random, secrets, fraction):
    """Ours is a subset: no header, body or moment passes here that the stripe library would refuse."""
    timestamp, mac, body = delivery
    parts = [timestamp, mac, *more]
    random.shuffle(parts)
    header = b",".join(parts)

    if isinstance(verify(header, body, [s.encode() for s in secrets], NOW + fraction), Verified):
        assert library_accepts(header, body, secrets, NOW + fraction)


@given(st.binary(max_size=200), st.binary(max_size=200), st.floats(0, 2**33))
def test_no_bytes_of_a_stranger_raise(header, body, now):
    """Whatever a stranger sends is refused as a value."""
    assert isinstance(verify(header, body, [SECRET.encode()], now), Refused)


@given(
    genuine,
    st.lists(st.sampled_from([b"v0=" + b"0" * 64, b"v1=" + b"0" * 64, b"v9=anything", b"x_1="]), max_size=8),
    st.randoms(use_true_random=False),
    st.sampled_from([[SECRET], [SECRET, OTHER]]),
    st.floats(0, 1, exclude_max=True),
)
def test_inside_our_grammar_the_library_accepts_no_more(delivery, more, random, secrets, fraction):
    """The converse: a well-formed header that the library takes is taken here, but for clocks ahead of ours."""
    timestamp, mac, body = delivery
    parts = [timestamp, mac, *more]
    random.shuffle(parts)
    header = b",".join(parts)
    now = NOW + fraction
    ahead = int(timestamp[2:]) - now > signature.TOLERANCE_SECONDS

    ours = isinstance(verify(header, body, [s.encode() for s in secrets], now), Verified)

    assert ours == (library_accepts(header, body, secrets, now) and not ahead)
