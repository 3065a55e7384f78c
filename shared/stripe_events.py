"""What we agree on with Stripe: where its events go, which kinds decide something here, which API versions we can read.

The webhook endpoint must send every kind (`cb-ops stripe check` compares); whatever else it sends is recorded as unhandled.
Source: https://docs.stripe.com/api/events/types. Next: consumers/payments/translate.py gives each kind its meaning.
"""

from enum import StrEnum

WEBHOOK_PATH = "/payment/webhook"  # where the door takes them, and where Stripe's endpoint has to lead
API_VERSION = "2026-10-28.endive"  # the version that stripe 16.1 is made for
# Versions whose shapes we have tried, each by its examples in tests/examples/stripe/versions; another one is handled as long
# as it decodes. Source: https://docs.stripe.com/changelog
API_VERSIONS_KNOWN = frozenset(
    """
    2025-04-30.basil 2025-05-28.basil 2025-06-30.basil 2025-07-30.basil 2025-08-27.basil
    2025-09-30.clover 2025-10-29.clover 2025-11-17.clover 2025-12-15.clover 2026-01-28.clover 2026-02-25.clover
    2026-03-25.dahlia 2026-04-22.dahlia 2026-05-27.dahlia 2026-06-24.dahlia 2026-07-29.dahlia 2026-08-26.dahlia
    2026-09-30.endive 2026-10-28.endive
    """.split()
)


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
