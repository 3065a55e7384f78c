"""The kinds of Stripe's events that decide something here, and the API version whose shapes our decoders are made for.

The webhook endpoint must send every kind (`cb-ops stripe check` compares); whatever else it sends is recorded as unhandled.
Source: https://docs.stripe.com/api/events/types. Next: consumers/payments/translate.py gives each kind its meaning.
"""

from enum import StrEnum

API_VERSION = "2026-10-28.endive"  # the version that stripe 16.1 is made for
API_VERSION_OLDEST = "2025-04-30.basil"  # understood from here on; a version's name begins with its date


class Kind(StrEnum):
    """A kind of event that we handle, as Stripe spells it."""

    SESSION_COMPLETED = "checkout.session.completed"
    SESSION_ASYNC_SUCCEEDED = "checkout.session.async_payment_succeeded"
    SESSION_ASYNC_FAILED = "checkout.session.async_payment_failed"
    SESSION_EXPIRED = "checkout.session.expired"
    INTENT_SUCCEEDED = "payment_intent.succeeded"
    INTENT_FAILED = "payment_intent.payment_failed"
    INTENT_CANCELED = "payment_intent.canceled"
    CHARGE_REFUNDED = "charge.refunded"
    REFUND_CREATED = "refund.created"
    REFUND_UPDATED = "refund.updated"
    REFUND_FAILED = "refund.failed"
    DISPUTE_CREATED = "charge.dispute.created"
    DISPUTE_CLOSED = "charge.dispute.closed"
