"""Checks that Stripe signed a webhook, and recently. Pure.

Enters: the raw `Stripe-Signature` header, the raw body, the endpoint's secrets, the time. Leaves: `Verified`, or `Refused` with
the reason that the log shows. Scheme v1 is described in https://docs.stripe.com/webhooks ("Verify webhook signatures
manually"): HMAC-SHA256 under the whole secret, `whsec_` included, over `t` "." body. We accept fewer headers than the stripe
library does: it accepts timestamps of any future and digits of any script, and raises TypeError or UnicodeDecodeError on bytes
of an attacker. Next: webhook.py.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE_SECONDS = 300  # Stripe's own tolerance; a retry is signed anew, so that a three days old event is fresh
SIGNATURES_MAX = 16  # one for each secret that is active during a roll, and a decoy; an attacker must not cause more work
HEADER_BYTES_MAX = 2048  # room for 16 signatures

# No leading zero: the library signs the number, we sign the bytes, and both must mean the same.
TIMESTAMP = re.compile(rb"0|[1-9][0-9]{0,11}")
V1_SIGNATURE = re.compile(rb"[0-9a-f]{64}")
OTHER_ELEMENT = re.compile(rb"[A-Za-z0-9_]{1,16}=[\x21-\x2b\x2d-\x7e]{0,128}")


@dataclass(frozen=True, slots=True)
class Verified:
    """Stripe signed exactly this body within the tolerance."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not Stripe, or not now: `header` breaks the grammar, `stale` is too old or too early, `forged` matches no secret."""

    reason: Literal["header", "stale", "forged", "not_utf8"]


def verify(header: bytes, body: bytes, secrets: Sequence[bytes], now_seconds: float) -> Verified | Refused:
    """Judge one delivery; never raises, whatever the bytes are.

    `now_seconds` is seconds since the epoch, with its fraction. JSON is UTF-8 (RFC 8259, section 8.1), so a body that is
    not is refused even when its signature fits.
    """
    parsed = _parse(header)
    if parsed is None:
        return Refused("header")
    timestamp, signatures = parsed
    if abs(now_seconds - int(timestamp)) > TOLERANCE_SECONDS:
        return Refused("stale")
    signed = timestamp + b"." + body
    genuine = False
    for secret in secrets:
        expected = hmac.digest(secret, signed, "sha256").hex().encode()
        for signature in signatures:
            # No early exit: the time that a refusal takes must not show which secret nearly matched.
            genuine |= hmac.compare_digest(expected, signature)
    if not genuine:
        return Refused("forged")
    try:
        body.decode()
    except UnicodeDecodeError:
        return Refused("not_utf8")
    return Verified()


def _parse(header: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return the timestamp and the v1 signatures, or None: one `t`, at least one `v1`, other schemes passed over."""
    if len(header) > HEADER_BYTES_MAX:
        return None
    timestamps: list[bytes] = []
    signatures: list[bytes] = []
    elements = header.split(b",")
    if len(elements) > SIGNATURES_MAX + 1:
        return None
    for element in elements:
        name, _, value = element.partition(b"=")
        if name == b"t" and TIMESTAMP.fullmatch(value):
            timestamps.append(value)
        elif name == b"v1" and V1_SIGNATURE.fullmatch(value):
            signatures.append(value)
        elif name in {b"t", b"v1"} or not OTHER_ELEMENT.fullmatch(element):
            return None
    if len(timestamps) != 1 or not signatures:
        return None
    return timestamps[0], signatures
