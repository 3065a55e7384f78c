"""The Dispute: a customer's bank wants the money back, or asks about it first."""

from typing import Any

Json = dict[str, Any]

FEE_MINOR = 1500  # what a chargeback costs the shop; real fees depend on the account
ANSWER_SECONDS = 9 * 24 * 60 * 60  # until the evidence is due
EVIDENCE = (
    *("access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure"),
    *("cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name", "customer_purchase_ip"),
    *("customer_signature", "duplicate_charge_documentation", "duplicate_charge_explanation", "duplicate_charge_id"),
    *("product_description", "receipt", "refund_policy", "refund_policy_disclosure", "refund_refusal_explanation"),
    *("service_date", "service_documentation", "shipping_address", "shipping_carrier", "shipping_date"),
    *("shipping_documentation", "shipping_tracking_number", "uncategorized_file", "uncategorized_text"),
)


def new(dispute_id: str, charge: Json, *, created: int, inquiry: bool) -> Json:
    """Return a dispute that needs a response; an inquiry moves no money."""
    card = charge["payment_method_details"]["card"]
    return {
        "id": dispute_id,
        "object": "dispute",
        "amount": charge["amount"] - charge["amount_refunded"] if inquiry else charge["amount"],
        "balance_transaction": None,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": dict.fromkeys(EVIDENCE) | {"enhanced_evidence": {}},
        "evidence_details": {
            "due_by": created + ANSWER_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "intended_submission_method": None,
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": card["brand"],
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": card["network"],
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": "fraudulent",
        "status": "warning_needs_response" if inquiry else "needs_response",
    }


def movement(txn_id: str, dispute: Json, *, created: int, back: bool) -> Json:
    """Return the balance transaction of money withdrawn for a dispute, or given back after it."""
    sign = 1 if back else -1
    fee = 0 if back else FEE_MINOR
    detail = {
        "amount": fee,
        "application": None,
        "currency": dispute["currency"],
        "description": "Dispute fee",
        "type": "stripe_fee",
    }
    return {
        "id": txn_id,
        "object": "balance_transaction",
        "amount": sign * dispute["amount"],
        "available_on": created,
        "balance_type": "payments",
        "created": created,
        "currency": dispute["currency"],
        "description": f"Chargeback {'reversal' if back else 'withdrawal'} for {dispute['charge']}",
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [detail] if fee else [],
        "net": sign * dispute["amount"] - fee,
        "reporting_category": "dispute_reversal" if back else "dispute",
        "source": dispute["id"],
        "status": "available",
        "type": "adjustment",
    }
