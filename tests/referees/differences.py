"""Where a referee and the sandbox differ, and why the sandbox is right. An entry that nothing needs fails a test.

The specification is of 2026-08-26.dahlia, Stripe's types are of 2026-10-28.endive, as the sandbox is: where they disagree,
the types win. Recorded payloads win over both (tests/examples/stripe).
"""

from dataclasses import dataclass

ENDIVE = "endive has it, dahlia had not"
RECORDED = "recorded payloads of 2026 carry it, neither the specification nor the types do"
TEXT_OR_NULL = {"type": ["string", "null"]}


@dataclass(frozen=True)
class Addition:
    """A key that the specification does not have; it is required, and judged by a schema that we wrote."""

    schema: dict
    reason: str


# The place of the key -> what is added to the specification there.
ADDITIONS = {
    "charge.destination": Addition(TEXT_OR_NULL, RECORDED),
    "charge.dispute": Addition(TEXT_OR_NULL, RECORDED),
    "charge.order": Addition(TEXT_OR_NULL, RECORDED),
    "charge.payment_method_details.card.electronic_commerce_indicator": Addition(TEXT_OR_NULL, ENDIVE),
    "charge.source": Addition({"type": ["object", "null"]}, ENDIVE),
    "checkout.session.allowed_payment_method_types": Addition({"type": ["array", "null"], "items": {"type": "string"}}, ENDIVE),
    "dispute.balance_transaction": Addition(TEXT_OR_NULL, RECORDED),
    "dispute.evidence_details.submission_method": Addition({"enum": ["manual", "not_submitted", "smart_disputes"]}, ENDIVE),
    "dispute.intended_submission_method": Addition(
        {"enum": [None, "manual", "prefer_manual", "prefer_smart_disputes", "smart_disputes"]}, ENDIVE
    ),
    "payment_intent.payment_record": Addition(TEXT_OR_NULL, ENDIVE),
    "payment_intent.shared_payment_granted_token": Addition(TEXT_OR_NULL, RECORDED),
    "payment_intent.source": Addition(TEXT_OR_NULL, ENDIVE),
    "product.tax_details": Addition({"type": ["object", "null"]}, ENDIVE),
    "product.type": Addition({"enum": ["good", "service"]}, ENDIVE),
}

# A complaint of the specification that is none -> the reason.
KNOWN = {
    "charge.refunds: missing": "shown on request alone since 2022-11-15, and absent from recorded payloads",
    "checkout.session.optional_items: missing": "absent from recorded payloads; endive's types let it be",
    "payment_page: no schema": "the hosted page's own endpoint, which Stripe documents nowhere; its command line uses it",
}

# What Stripe's types do not know, or call otherwise, and what is taken out before they judge: the place -> the reason.
UNTYPED = {
    "charge.destination": RECORDED,
    "charge.dispute": RECORDED,
    "charge.order": RECORDED,
    "dispute.balance_transaction": RECORDED,
    "payment_intent.shared_payment_granted_token": RECORDED,
}

# Requests that stripe-mock refuses or does not know, and why they are right: a route, or a route and a parameter -> the reason.
UNMOCKED = {
    "GET /v1/payment_pages/{id}": KNOWN["payment_page: no schema"],
    "POST /v1/payment_pages/{id}/confirm": KNOWN["payment_page: no schema"],
    "POST /v1/webhook_endpoints api_version": "it knows versions up to dahlia",
}
