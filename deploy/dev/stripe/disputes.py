"""Disputes: opened by some cards, answered with evidence, decided. No I/O. Next: ``world.take``.

Evidence that reads ``winning_evidence`` or ``losing_evidence`` decides, as in Stripe's own sandboxes, and
``escalate_inquiry_evidence`` makes a chargeback of an inquiry (docs.stripe.com/testing#evidence).
"""

from collections.abc import Mapping
from typing import Any, Literal

from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.objects import dispute as shape
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.world import World

Json = dict[str, Any]

OPEN = frozenset({"needs_response", "warning_needs_response"})
REVIEWED = {"under_review": "needs_response", "warning_under_review": "warning_needs_response"}
WORDS = WINNING, LOSING, ESCALATING = "winning_evidence", "losing_evidence", "escalate_inquiry_evidence"

Verdict = Literal["won", "lost", "warning_closed", "needs_response"]
# A status in which the bank thinks -> what it was told -> the status after that.
VERDICTS: Mapping[str, Mapping[str, Verdict]] = {
    "under_review": {WINNING: "won", LOSING: "lost"},
    "warning_under_review": {WINNING: "warning_closed", LOSING: "warning_closed", ESCALATING: "needs_response"},
}


def open_one(world: World, charge: Json, *, inquiry: bool, now: int) -> None:
    """Dispute a paid charge: its money is withdrawn at once, or, in an inquiry, not at all."""
    dispute = shape.new(world.mint.alone("du"), charge, created=now, inquiry=inquiry)
    charge |= {"disputed": True, "dispute": dispute["id"]}
    world.put("charge", charge)
    if not inquiry:
        _move(world, dispute, now=now, back=False)
    world.put("dispute", dispute)
    world.tell("charge.dispute.created", dispute, now=now, cause=event.cause())
    if not inquiry:
        world.tell("charge.dispute.funds_withdrawn", dispute, now=now, cause=event.cause())


def update(world: World, dispute: Json, wish: Json, at: At) -> Json:
    """Add evidence, and submit it unless told otherwise; the bank reviews it at once."""
    evidence, metadata = wish.get("evidence"), wish.get("metadata")
    if evidence is not None and dispute["status"] not in OPEN:
        raise ApiError(400, "This dispute is already closed", param="evidence")
    if evidence is not None:
        dispute["evidence"] = dispute["evidence"] | evidence
        details = dispute["evidence_details"]
        details["has_evidence"] = any(said for said in dispute["evidence"].values())
        if wish.get("submit", True):
            details |= {"submission_count": details["submission_count"] + 1, "submission_method": "manual"}
            warns = dispute["status"].startswith("warning")
            dispute["status"] = "warning_under_review" if warns else "under_review"
    if metadata is not None:
        dispute["metadata"] = metadata
    world.put("dispute", dispute)
    world.tell("charge.dispute.updated", dispute, now=at.now, cause=at.cause)
    return dispute


def verdict(dispute: Json) -> Verdict | None:
    """Return what becomes of a reviewed dispute; None while the bank thinks (evidence that says nothing of it)."""
    return VERDICTS.get(dispute["status"], {}).get(dispute["evidence"]["uncategorized_text"])


def decide(world: World, dispute: Json, at: At) -> None:
    """Do what the bank made of the evidence."""
    match verdict(dispute):
        case "needs_response":
            _escalate(world, dispute, at)
        case "won" | "lost" | "warning_closed" as status:
            end(world, dispute, status, at)
        case None:
            pass


def close(world: World, dispute: Json, at: At) -> Json:
    """Give up: the shop accepts the dispute, and cannot take that back."""
    if dispute["status"] not in OPEN | set(REVIEWED):
        raise ApiError(400, "This dispute is already closed")
    end(world, dispute, "warning_closed" if dispute["status"].startswith("warning") else "lost", at)
    return dispute


def end(world: World, dispute: Json, status: str, at: At) -> None:
    """Close a dispute with this status; when it was won, what was withdrawn comes back first, and may be refunded."""
    dispute["status"] = status
    if status == "won":
        dispute["is_charge_refundable"] = True
        _move(world, dispute, now=at.now, back=True)
    world.put("dispute", dispute)
    if status == "won":
        world.tell("charge.dispute.funds_reinstated", dispute, now=at.now, cause=at.cause)
    world.tell("charge.dispute.closed", dispute, now=at.now, cause=at.cause)


def _escalate(world: World, dispute: Json, at: At) -> None:
    """Make a chargeback of an inquiry: its money is withdrawn, and it wants an answer of its own."""
    dispute |= {"status": "needs_response", "is_charge_refundable": False}
    dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
    dispute["evidence_details"]["due_by"] = at.now + shape.ANSWER_SECONDS
    _move(world, dispute, now=at.now, back=False)
    world.put("dispute", dispute)
    for kind in ("charge.dispute.updated", "charge.dispute.funds_withdrawn"):
        world.tell(kind, dispute, now=at.now, cause=at.cause)


def _move(world: World, dispute: Json, *, now: int, back: bool) -> None:
    moved = shape.movement(world.mint.alone("txn"), dispute, created=now, back=back)
    dispute["balance_transactions"] = [*dispute["balance_transactions"], moved]
    dispute["balance_transaction"] = dispute["balance_transactions"][0]["id"]
