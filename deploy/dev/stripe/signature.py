"""Stripe's webhook signature, scheme v1 (docs.stripe.com/webhooks#verify-manually)."""

import hashlib
import hmac


def header(body: bytes, secret: str, at_seconds: int) -> str:
    """Return the ``Stripe-Signature`` of this attempt.

    ``secret`` is the whole ``whsec_…``. The v0 is a decoy that Stripe sends in test mode; receivers ignore it.
    """
    signed = str(at_seconds).encode() + b"." + body
    true = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    decoy = hashlib.sha256(signed).hexdigest()
    return f"t={at_seconds},v1={true},v0={decoy}"
