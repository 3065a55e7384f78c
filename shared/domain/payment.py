"""What is true of a payment, from the set of facts in Stripe's events: any order, any number of copies, one result.

Every fact is joined into what is known by a rule that is commutative, associative and idempotent (a maximum, a union, an "or"),
and everything shown (status, refunded amount, whether the booking must go) is derived from what is known. Time and arrival
order decide nothing; docs/decisions.md says why. Enters: a Payment and one Fact. Leaves: Changed with the event that announces
it, or Unchanged. Next in the walk: consumers/payments/decide.py, for a whole batch.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

import msgspec
from msgspec.structs import replace

REFUND_RANK = {"pending": 0, "requires_action": 1, "succeeded": 2, "failed": 3, "canceled": 3}
LOST = "lost"
DISPUTE_CLOSED = frozenset({"won", LOST, "warning_closed", "prevented"})


class Status(StrEnum):
    """The labels of CultureBridge's enum type `paymentstatus`."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUNDED = "refunded"


class ClosedReason(StrEnum):
    """Why a payment no longer blocks a new checkout; the later of these wins."""

    EXPIRED = "expired"
    CANCELED = "canceled"
    ASYNC_FAILED = "async_failed"
    REFUNDED = "refunded"


CLOSED_RANK = {reason: rank for rank, reason in enumerate(ClosedReason)}
FREES_THE_SLOT = frozenset({ClosedReason.EXPIRED, ClosedReason.CANCELED, ClosedReason.ASYNC_FAILED})
REFUNDED_IN_PARTS = "refunded_in_parts_without_charge"  # a matter for a person, until the charge shows the full refund


class Announcement(StrEnum):
    """The types of `payments.events`, without their prefix: what happened, for people; consumers decide from the state."""

    REFUNDED = "payment.refunded"
    PARTIALLY_REFUNDED = "payment.partially_refunded"
    REFUND_FAILED = "payment.refund_failed"
    SUCCEEDED = "payment.succeeded"
    EXPIRED = "payment.expired"
    FAILED = "payment.failed"
    DISPUTED = "payment.disputed"
    DISPUTE_CLOSED = "payment.dispute_closed"
    UPDATED = "payment.updated"


@dataclass(frozen=True, slots=True)
class Paid:
    """Money arrived: `amount_minor` of `currency`, as Stripe counted it."""

    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed, or the chance to pay ended (then `closes` says why). `created` is Stripe's, in seconds."""

    created: int
    reason: str
    closes: ClosedReason | None = None


@dataclass(frozen=True, slots=True)
class RefundSeen:
    """One refund at one moment of its life; `status` is a key of REFUND_RANK."""

    refund_id: str
    status: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ChargeRefunded:
    """The charge's running total of refunds, in minor units."""

    amount_refunded_minor: int


@dataclass(frozen=True, slots=True)
class DisputeSeen:
    """One dispute at one moment of its life; the amount decides nothing here, and is kept in the ledger."""

    dispute_id: str
    status: str
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """The event changes no money; it only names ids that belong together."""


Fact = Paid | Failed | RefundSeen | ChargeRefunded | DisputeSeen | Noted


@dataclass(frozen=True, slots=True)
class Refund:
    """What is known of one refund: its furthest status, and whether it was ever seen succeeded."""

    status: str
    ever_succeeded: bool
    amount_minor: int


class Shown(msgspec.Struct, frozen=True):
    """What `payments.events` and the ledger show of a payment: any change of it takes the next version and emits one event."""

    status: Status
    paid: bool
    cancel_due: bool
    amount_refunded_minor: int
    failure_reason: str | None
    dispute_open: bool
    closed_reason: ClosedReason | None
    slot_free: bool


class Payment(msgspec.Struct, frozen=True):
    """One row of `payments` with the facts kept beside it. Amounts in minor units of `currency` (upper case).

    `intents` maps every payment intent id ever linked to whether it is the one that paid; `closed`: the row no longer blocks a
    new checkout, whoever closed it; `slot_free`: Stripe's own event closed it unpaid.
    """

    # No dataclass, since each event makes several: a frozen one of this size takes twenty times as long to make or to copy.

    id: str
    booking_id: str
    amount_minor: int
    currency: str
    version: int = 0
    paid: bool = False
    failed: bool = False
    failure: tuple[int, str] | None = None
    charge_refunded_minor: int = 0
    refunds: Mapping[str, Refund] = MappingProxyType({})
    disputes: Mapping[str, str] = MappingProxyType({})
    intents: Mapping[str, bool] = MappingProxyType({})
    session_id: str | None = None
    closed: bool = False
    closed_reason: ClosedReason | None = None
    slot_free: bool = False

    @property
    def refunded_minor(self) -> int:
        """What was refunded: refunds that succeeded, or the charge's own total less those that failed.

        Never more than the payment: after a full refund that failed and was made again, both refunds count until the event of
        the failure comes.
        """
        if not self.refunds:
            return min(self.charge_refunded_minor, self.amount_minor)
        standing = sum(r.amount_minor for r in self.refunds.values() if r.status == "succeeded")
        undone = sum(r.amount_minor for r in self.refunds.values() if REFUND_RANK[r.status] == REFUND_RANK["failed"])
        return min(max(standing, self.charge_refunded_minor - undone, 0), self.amount_minor)

    @property
    def cancel_due(self) -> bool:
        """Whether the whole amount was ever given back, so that the booking must go; a later failure does not undo it.

        The largest single refund, not the sum: 60 refunded, failed and 60 refunded again is no full refund of 100.
        """
        largest = max((r.amount_minor for r in self.refunds.values() if r.ever_succeeded), default=0) if self.refunds else 0
        return max(self.charge_refunded_minor, largest) >= self.amount_minor > 0

    @property
    def status(self) -> Status:
        """The one of CultureBridge's four states that the facts add up to, derived on every read."""
        return self._status(self.refunded_minor)

    @property
    def failure_reason(self) -> str | None:
        """Why the newest failed attempt failed: a code of Stripe's, `unknown`, or a ClosedReason."""
        return self.failure[1] if self.failure else None

    @property
    def dispute_open(self) -> bool:
        """Whether any dispute is still undecided; refunds are blocked meanwhile."""
        return any(status not in DISPUTE_CLOSED for status in self.disputes.values())

    @property
    def intent_id(self) -> str | None:
        """The intent that is shown: one that paid, else any; the smallest of them, so that order does not matter."""
        paid = [intent for intent, has_paid in self.intents.items() if has_paid]
        return min(paid or self.intents, default=None)

    def shown(self) -> Shown:
        """Return what others are shown of it."""
        refunded_minor = self.refunded_minor
        return Shown(
            self._status(refunded_minor),
            self.paid,
            self.cancel_due,
            refunded_minor,
            self.failure_reason,
            self.dispute_open,
            self.closed_reason,
            self.slot_free,
        )

    def _status(self, refunded_minor: int) -> Status:
        if refunded_minor >= self.amount_minor > 0:
            return Status.REFUNDED
        if self.paid:
            return Status.SUCCEEDED
        return Status.FAILED if self.failed else Status.PENDING


class Changed(msgspec.Struct, frozen=True):
    """What is shown changed from `was` to `shown`: `now` carries the next version, `announcement` names what happened."""

    now: Payment
    announcement: Announcement
    was: Shown
    shown: Shown


class Unchanged(msgspec.Struct, frozen=True):
    """Nothing of what is shown changed; `now` may still know more (an id, an older failure)."""

    now: Payment
    shown: Shown


Outcome = Changed | Unchanged


def advance(before: Payment, fact: Fact, *, session_id: str | None = None, intent_id: str | None = None) -> Outcome:
    """Join one fact, and the ids that its event named, into what is known."""
    now = _join(_link(before, fact, session_id=session_id, intent_id=intent_id), fact)
    if now.cancel_due:
        now = _close(now, ClosedReason.REFUNDED)
    if now.paid and now.slot_free:
        now = replace(now, slot_free=False)
    was = before.shown()
    shown = was if now is before else now.shown()
    if shown == was:
        return Unchanged(now, shown)
    announcement = next(_announcements(was, shown, fact, was_closed=before.closed), Announcement.UPDATED)
    return Changed(replace(now, version=before.version + 1), announcement, was, shown)


def needs_a_person(before: Payment, now: Payment) -> Iterable[str]:
    """Yield the reasons for which this change needs a person's attention."""
    if now.status is Status.REFUNDED and not now.cancel_due and before.status is not Status.REFUNDED:
        yield REFUNDED_IN_PARTS
    # By the refund, not by what is shown: it may be a part, or fail while it is pending, or before it was seen to succeed.
    if now.refunds is not before.refunds and _undone(now) - _undone(before):
        yield "refund_failed"
    # By the dispute, not by what is shown: its end may be seen before its beginning, and a second one beside a first.
    if now.disputes is not before.disputes:
        if now.disputes.keys() - before.disputes.keys():
            yield "dispute_opened"
        # A matter of its own: the opening of the dispute was looked after months ago.
        if _lost(now) - _lost(before):
            yield "dispute_lost"


def needs_no_person(before: Payment, now: Payment) -> Iterable[str]:
    """Yield the reasons that are resolved, since this change brings what was missing."""
    if now.cancel_due and not before.cancel_due:
        yield REFUNDED_IN_PARTS


def _undone(known: Payment) -> frozenset[str]:
    """Return the refunds whose money came back or never left: somebody believes that it is with the customer."""
    return frozenset(refund for refund, seen in known.refunds.items() if REFUND_RANK[seen.status] == REFUND_RANK["failed"])


def _lost(known: Payment) -> frozenset[str]:
    """Return the disputes by which the customer's bank keeps the money."""
    return frozenset(dispute for dispute, status in known.disputes.items() if status == LOST)


def _link(known: Payment, fact: Fact, *, session_id: str | None, intent_id: str | None) -> Payment:
    if session_id is not None and known.session_id is None:
        known = replace(known, session_id=session_id)
    if intent_id is not None:
        has_paid = known.intents.get(intent_id, False) or isinstance(fact, Paid)
        if known.intents.get(intent_id) is not has_paid:
            known = replace(known, intents={**known.intents, intent_id: has_paid})
    return known


def _join(known: Payment, fact: Fact) -> Payment:
    match fact:
        case Paid():
            return known if known.paid else replace(known, paid=True)
        case Failed(created=created, reason=reason, closes=closes):
            newest = max(known.failure or (created, reason), (created, reason))
            known = replace(known, failed=True, failure=newest)
            return _close(known, closes) if closes else known
        case RefundSeen():
            return replace(known, refunds={**known.refunds, fact.refund_id: _furthest(known, fact)})
        case ChargeRefunded(amount_refunded_minor=total):
            return replace(known, charge_refunded_minor=max(known.charge_refunded_minor, total))
        case DisputeSeen(dispute_id=dispute, status=status):
            furthest = max(known.disputes.get(dispute, status), status, key=_dispute_rank)
            return replace(known, disputes={**known.disputes, dispute: furthest})
        case Noted():
            return known
        case _ as never:
            assert_never(never)


def _dispute_rank(status: str) -> tuple[bool, bool, str]:
    # Of several closed statuses "lost" wins: an earlier one must not hide that the bank takes the money after all.
    return status in DISPUTE_CLOSED, status == LOST, status


def _furthest(known: Payment, fact: RefundSeen) -> Refund:
    before = known.refunds.get(fact.refund_id)
    seen = Refund(fact.status, fact.status == "succeeded", fact.amount_minor)
    if before is None:
        return seen
    return Refund(
        status=max(before.status, seen.status, key=lambda s: (REFUND_RANK[s], s)),
        ever_succeeded=before.ever_succeeded or seen.ever_succeeded,
        amount_minor=max(before.amount_minor, seen.amount_minor),
    )


def _close(known: Payment, reason: ClosedReason) -> Payment:
    strongest = max(known.closed_reason or reason, reason, key=CLOSED_RANK.__getitem__)
    frees = strongest in FREES_THE_SLOT and (known.slot_free or not known.closed)
    return replace(known, closed=True, closed_reason=strongest, slot_free=frees)


def _announcements(was: Shown, now: Shown, fact: Fact, *, was_closed: bool) -> Iterator[Announcement]:
    """Yield what happened, the weightiest first; `was_closed`: the payment blocked no new checkout before."""
    expires = isinstance(fact, Failed) and fact.closes in {ClosedReason.EXPIRED, ClosedReason.CANCELED}
    if now.status is Status.REFUNDED and was.status is not Status.REFUNDED:
        yield Announcement.REFUNDED
    if now.amount_refunded_minor > was.amount_refunded_minor:
        yield Announcement.PARTIALLY_REFUNDED
    if now.amount_refunded_minor < was.amount_refunded_minor:
        yield Announcement.REFUND_FAILED
    if now.paid and not was.paid:
        yield Announcement.SUCCEEDED
    if expires and not was_closed and not now.paid:
        yield Announcement.EXPIRED
    if isinstance(fact, Failed) and not expires and now.status is Status.FAILED:
        yield Announcement.FAILED
    if now.dispute_open and not was.dispute_open:
        yield Announcement.DISPUTED
    if was.dispute_open and not now.dispute_open:
        yield Announcement.DISPUTE_CLOSED
