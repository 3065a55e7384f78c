"""The PaymentIntent: one customer's will to pay one amount, over as many attempts as it takes."""

from typing import Any

from deploy.dev.stripe.objects import payment_method

Json = dict[str, Any]

OPTIONS: Json = {
    "card": {"installments": None, "mandate_options": None, "network": None, "request_three_d_secure": "automatic"},
    "sepa_debit": {},
}


def new(intent_id: str, *, created: int, amount: int, currency: str, secret: str, wish: Json) -> Json:
    """Return an intent that waits for a payment method.

    ``wish`` holds the create call's checked parameters, or the session's ``payment_intent_data`` and payment method types.
    """
    kinds = wish["payment_method_types"]
    return {
        "id": intent_id,
        "object": "payment_intent",
        "allowed_payment_method_types": None,
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": wish.get("automatic_payment_methods"),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": wish.get("capture_method", "automatic_async"),
        "client_secret": f"{intent_id}_secret_{secret}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "customer": None,
        "customer_account": None,
        "description": wish.get("description"),
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": wish.get("metadata", {}),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {kind: OPTIONS[kind] for kind in kinds},
        "payment_method_types": kinds,
        "payment_record": None,
        "processing": None,
        "receipt_email": wish.get("receipt_email"),
        "review": None,
        "setup_future_usage": wish.get("setup_future_usage"),
        "shared_payment_granted_token": None,
        "shipping": _shipping(wish["shipping"]) if wish.get("shipping") else None,
        "source": None,
        "statement_descriptor": wish.get("statement_descriptor"),
        "statement_descriptor_suffix": wish.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def _shipping(known: Json) -> Json:
    """Return where the goods go; what was not said is null."""
    return {
        "address": payment_method.address(known["address"]),
        "carrier": known.get("carrier"),
        "name": known["name"],
        "phone": known.get("phone"),
        "tracking_number": known.get("tracking_number"),
    }
