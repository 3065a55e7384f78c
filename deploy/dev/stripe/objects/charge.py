"""The Charge: one attempt to take the money, and everything that later happens to it."""

from typing import Any

from deploy.dev.stripe.cards import Declines

Json = dict[str, Any]

RISK_SCORE = 28  # a normal customer; the sandbox judges nobody


def new(charge_id: str, intent: Json, method: Json, *, created: int) -> Json:
    """Return the charge of a bank that has not answered yet."""
    kind = method["type"]
    details = _card(method["card"], intent["amount"]) if kind == "card" else _account(method["sepa_debit"])
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "CULTUREBRIDGE SANDBOX",
        "captured": False,
        "created": created,
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "destination": None,
        "dispute": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),  # a snapshot: later changes of the intent are not copied
        "on_behalf_of": None,
        "order": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {kind: details, "type": kind},
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "pending",
        "transfer_data": None,
        "transfer_group": None,
    }


def succeed(charge: Json, *, receipt_url: str, challenged: bool) -> None:
    """Write into a new charge that the bank said yes; its fees come later (capture is asynchronous)."""
    charge["amount_captured"] = charge["amount"]
    charge["captured"] = True
    charge["outcome"] = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": "normal",
        "risk_score": RISK_SCORE,
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    charge["paid"] = True
    charge["receipt_url"] = receipt_url
    charge["status"] = "succeeded"
    card = charge["payment_method_details"].get("card")
    if card:
        card["authorization_code"] = "224755"
        card["network_transaction_id"] = "791057772779751"
    if card and challenged:
        card["three_d_secure"] = {
            "authentication_flow": "challenge",
            "electronic_commerce_indicator": "05",
            "exemption_indicator": None,
            "result": "authenticated",
            "result_reason": None,
            "transaction_id": "9a6b8f3d-0000-4000-8000-5a5db0c0ffee",
            "version": "2.2.0",
        }


def fail(charge: Json, decline: Declines) -> None:
    """Write into a new charge that the bank said no."""
    charge["failure_code"] = decline.code or decline.decline_code
    charge["failure_message"] = decline.message
    charge["outcome"] = {
        "advice_code": decline.advice_code,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network",
        "reason": decline.decline_code or decline.code,
        "risk_level": "normal",
        "risk_score": RISK_SCORE,
        "seller_message": "The bank did not return any further details with this decline.",
        "type": "issuer_declined",
    }
    charge["status"] = "failed"


def _card(card: Json, amount: int) -> Json:
    return {
        "amount_authorized": amount,
        "authorization_code": None,
        "brand": card["brand"],
        "checks": card["checks"],
        "country": card["country"],
        "electronic_commerce_indicator": "07",
        "exp_month": card["exp_month"],
        "exp_year": card["exp_year"],
        "extended_authorization": {"status": "disabled"},
        "fingerprint": card["fingerprint"],
        "funding": card["funding"],
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": card["last4"],
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "regulated_status": card["regulated_status"],
        "three_d_secure": None,
        "transaction_link_id": None,
        "wallet": None,
    }


def _account(account: Json) -> Json:
    return {name: account[name] for name in ("bank_code", "branch_code", "country", "fingerprint", "last4")} | {"mandate": None}
