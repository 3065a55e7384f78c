"""What happens at this Stripe by itself, and when: read off the objects, so that a restart finds all of it again.

An object enters, the moments at which something is due with it leave. No I/O. Next: ``sandbox`` waits for them.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.dev.stripe import checkout, disputes, payments, refunds
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.world import World

Json = dict[str, Any]

SETTLE_SECONDS = 1.5  # real balance transactions follow their charge by one to two seconds
DEBIT_SECONDS = 1.0  # real debits take days; Stripe's own test accounts, seconds
DISPUTE_SECONDS = 1.0  # after a checkout; a charge made by the API alone is disputed at once, as Stripe's own scripts expect
REFUND_SECONDS = 2.0  # until a slow refund arrives, or one that fails comes back
AFTERMATH_SECONDS = max(SETTLE_SECONDS, DEBIT_SECONDS, DISPUTE_SECONDS, REFUND_SECONDS)


@dataclass(frozen=True)
class Rule:
    """When (None: not, or not any more) something is due with an object of this kind, and what is done then."""

    kind: str
    moment: Callable[[World, Json], float | None]
    act: Callable[[World, Json, At], object]


def _expiry(_world: World, session: Json) -> float | None:
    return session["expires_at"] if session["status"] == "open" else None


def _balance(_world: World, charge: Json) -> float | None:
    return charge["created"] + SETTLE_SECONDS if charge["paid"] and not charge["balance_transaction"] else None


def _debit(world: World, intent: Json) -> float | None:
    if intent["status"] != "processing":
        return None
    return float(world.get("charge", intent["latest_charge"])["created"] + DEBIT_SECONDS)


def _dispute(world: World, charge: Json) -> float | None:
    if not charge["paid"] or charge["dispute"] or refunds.aftermath(charge) not in {"chargeback", "inquiry"}:
        return None
    return float(charge["created"] + (DISPUTE_SECONDS if world.session_of(charge["payment_intent"]) else 0))


def _verdict(_world: World, dispute: Json) -> float | None:
    return float(dispute["created"]) if disputes.verdict(dispute) else None


def _deadline(_world: World, dispute: Json) -> float | None:
    return float(dispute["evidence_details"]["due_by"]) if dispute["status"] in disputes.OPEN else None


def _arrival(_world: World, refund: Json) -> float | None:
    return refund["created"] + REFUND_SECONDS if refund["status"] == "pending" else None


def _return(world: World, refund: Json) -> float | None:
    comes_back = refund["status"] == "succeeded" and refunds.aftermath(world.get("charge", refund["charge"])) == "refunds_fail"
    return refund["created"] + REFUND_SECONDS if comes_back else None


RULES = {
    "expiry": Rule("session", _expiry, checkout.expire),
    "balance": Rule("charge", _balance, lambda world, charge, at: payments.settle_balance(world, charge, now=at.now)),
    "debit": Rule("intent", _debit, payments.settle_debit),
    "dispute": Rule(
        *("charge", _dispute),
        lambda world, it, at: disputes.open_one(world, it, inquiry=refunds.aftermath(it) == "inquiry", now=at.now),
    ),
    "verdict": Rule("dispute", _verdict, disputes.decide),
    "deadline": Rule("dispute", _deadline, disputes.close),
    "arrival": Rule("refund", _arrival, refunds.succeed),
    "return": Rule("refund", _return, refunds.fail),
}
BY_KIND = {rule.kind: [(name, each) for name, each in RULES.items() if each.kind == rule.kind] for rule in RULES.values()}


class Timetable:
    """Everything that is due some day, earliest first; ``public_url`` is where this Stripe's pages are."""

    def __init__(self, world: World, public_url: str) -> None:
        self._world = world
        self._public_url = public_url
        self._entries: list[tuple[float, str, str]] = []

    def note(self, kind: str, thing: Json) -> None:
        """Look at an object that is new or has changed."""
        for name, rule in BY_KIND.get(kind, ()):
            moment = rule.moment(self._world, thing)
            if moment is not None:
                heapq.heappush(self._entries, (moment, name, thing["id"]))

    @property
    def next_moment(self) -> float | None:
        """When something may be due next."""
        return self._entries[0][0] if self._entries else None

    def act(self, now: float) -> bool:
        """Do the first thing that is due by now; False when there is none. Changes are in the world, not kept yet."""
        while self._entries and self._entries[0][0] <= now:
            moment, name, object_id = heapq.heappop(self._entries)
            rule = RULES[name]
            thing = self._world.tables[rule.kind].get(object_id)
            # An object that changed has other entries for its other moments; one that was dealt with has none.
            if thing is not None and rule.moment(self._world, thing) == moment:
                rule.act(self._world, thing, At(int(now), self._public_url, event.cause()))
                return True
        return False
