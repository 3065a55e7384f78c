"""Stripe's webhook signature, scheme v1 (docs.stripe.com/webhooks#verify-manually)."""

import hashlib
import hmac
from collections.abc import Iterable


def header(body: bytes, secrets: Iterable[str], at_seconds: int) -> str:
    """Return the ``Stripe-Signature`` of this attempt: one v1 for each secret that is valid now.

    A secret is the whole ``whsec_…``. The v0 is a decoy that Stripe sends in test mode; receivers ignore it.
    """
    signed = str(at_seconds).encode() + b"." + body
    true = "".join(f",v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets)
    decoy = hashlib.sha256(signed).hexdigest()
    return f"t={at_seconds}{true},v0={decoy}"
