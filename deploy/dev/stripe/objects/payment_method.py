"""The PaymentMethod: a card or a bank account, as Stripe remembers it."""

from typing import Any

from deploy.dev.stripe.cards import BankAccount, Card, fingerprint

Json = dict[str, Any]

ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def new(method_id: str, paid_with: Card | BankAccount, *, created: int, wish: Json) -> Json:
    """Return the method; ``wish`` may hold ``billing_details`` and ``metadata``."""
    kind, details = ("card", _card(paid_with)) if isinstance(paid_with, Card) else ("sepa_debit", _account(paid_with))
    return {
        "id": method_id,
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": billing_details(wish.get("billing_details", {})),
        kind: details,
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": wish.get("metadata", {}),
        "type": kind,
    }


def billing_details(known: Json) -> Json:
    """Return the payer's details; what was not said is null."""
    return {
        "address": address(known.get("address") or {}),
        "email": known.get("email"),
        "name": known.get("name"),
        "phone": known.get("phone"),
        "tax_id": known.get("tax_id"),
    }


def address(known: Json) -> Json:
    """Return an address; what was not said is null."""
    return {name: known.get(name) for name in ADDRESS}


def _card(card: Card) -> Json:
    return {
        "brand": card.brand.code,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand.display_code,
        "exp_month": card.exp_month,
        "exp_year": card.exp_year,
        "fingerprint": fingerprint(card.number),
        "funding": "credit",
        "generated_from": None,
        "last4": card.last4,
        "networks": {"available": [card.brand.code], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _account(account: BankAccount) -> Json:
    return {
        "bank_code": account.iban[4:9],
        "branch_code": "",
        "country": account.iban[:2],
        "fingerprint": fingerprint(account.iban),
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": account.iban[-4:],
    }
