"""The Checkout Session."""

from typing import Any

Json = dict[str, Any]

OPTIONS: Json = {"card": {"request_three_d_secure": "automatic"}, "sepa_debit": {}}


def new(session_id: str, *, created: int, currency: str, amount: int, wish: Json) -> Json:
    """Return an open, unpaid session; ``wish`` holds the create call's checked parameters and its ``url``."""
    return {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": wish.get("allow_promotion_codes"),
        "allowed_payment_method_types": None,
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": wish.get("billing_address_collection"),
        "cancel_url": wish.get("cancel_url"),
        "client_reference_id": wish.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": created,
        "currency": currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None,
        "customer_account": None,
        "customer_creation": "if_required",
        "customer_details": None,
        "customer_email": wish.get("customer_email"),
        "discounts": [],
        "expires_at": wish["expires_at"],
        "integration_identifier": None,
        "invoice": None,
        "invoice_creation": {
            "enabled": False,
            "invoice_data": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": None,
                "metadata": {},
                "rendering_options": None,
            },
        },
        "livemode": False,
        "locale": wish.get("locale"),
        "managed_payments": {"enabled": False},
        "metadata": wish.get("metadata", {}),
        "mode": "payment",
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_configuration_details": None,
        "payment_method_options": {kind: OPTIONS[kind] for kind in wish["payment_method_types"]},
        "payment_method_types": wish["payment_method_types"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": wish.get("phone_number_collection", {}).get("enabled", False)},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": wish.get("submit_type"),
        "subscription": None,
        "success_url": wish["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": wish["url"],
        "wallet_options": None,
    }


def customer_details(billing: Json) -> Json:
    """Return who paid, from the billing details of the payment method."""
    return {
        "address": billing["address"] | {"country": billing["address"]["country"] or "US"},
        "business_name": None,
        "email": billing["email"],
        "individual_name": None,
        "name": billing["name"],
        "phone": billing["phone"],
        "tax_exempt": "none",
        "tax_ids": [],
    }
