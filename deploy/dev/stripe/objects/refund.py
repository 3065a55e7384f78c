"""The Refund: money on its way back."""

from typing import Any

Json = dict[str, Any]


def new(refund_id: str, charge: Json, *, created: int, amount: int, status: str, balance_transaction: str, wish: Json) -> Json:
    """Return a refund; ``wish`` may hold ``reason`` and ``metadata``."""
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": balance_transaction,
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "customer": None,
        "customer_account": None,
        "destination_details": _destination(charge["payment_method_details"]["type"]),
        "metadata": wish.get("metadata", {}),
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": wish.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }


def _destination(kind: str) -> Json:
    """Return where the money goes; Stripe tells more than the kind for cards alone."""
    if kind != "card":
        return {"type": kind}
    card = {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}
    return {"card": card, "type": kind}
