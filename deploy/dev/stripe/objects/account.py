"""The Account: whose key it is, as far as a shop needs to know."""

from typing import Any

Json = dict[str, Any]


def new(account_id: str) -> Json:
    """Return an account that may sell."""
    return {
        "id": account_id,
        "object": "account",
        "business_profile": None,
        "business_type": None,
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "groups": None,
        "payouts_enabled": True,
        "settings": None,
        "type": "standard",
    }
