"""The PaymentMethod: a card, as Stripe remembers it."""

import hashlib
from typing import Any

from deploy.dev.stripe.cards import Card

Json = dict[str, Any]


def new(method_id: str, card: Card, *, created: int, email: str) -> Json:
    """Return the method for a card that a customer typed."""
    return {
        "id": method_id,
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": billing_details(email),
        "card": {
            "brand": "visa",
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "display_brand": "visa",
            "exp_month": card.exp_month,
            "exp_year": card.exp_year,
            "fingerprint": fingerprint(card.number),
            "funding": "credit",
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": ["visa"], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": created,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def billing_details(email: str) -> Json:
    """Return the payer's details; the page asks for the mail address alone."""
    return {
        "address": {
            "city": None,
            "country": None,
            "line1": None,
            "line2": None,
            "postal_code": None,
            "state": None,
        },
        "email": email,
        "name": None,
        "phone": None,
        "tax_id": None,
    }


def fingerprint(number: str) -> str:
    """Return the sixteen characters that are the same for the same card."""
    return hashlib.sha256(number.encode()).hexdigest()[:16]
