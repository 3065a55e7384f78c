"""What a batch of events does to the payments it touches; pure, event by event in batch order.

Enters: what the store loaded under locks, and the batch. Leaves: everything to write and to publish. A refused event
changes nothing and gets no inbox row, so that its replay is never taken for a duplicate. Next: store.py writes it, and batch.py
publishes it. Next in the walk: consumers/bookings/handlers.py, which reads what was published.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

import msgspec
from msgspec.structs import asdict

from consumers.payments.translate import Event
from shared import messages
from shared.db.inbox import Entry
from shared.domain import payment
from shared.domain.ledger import Decision
from shared.domain.matter import Matter
from shared.domain.payment import (
    Announcement,
    Changed,
    ChargeRefunded,
    DisputeSeen,
    Failed,
    Noted,
    Paid,
    Payment,
    RefundSeen,
    Shown,
    Unchanged,
)
from shared.kafka.batch import Emitted
from shared.kafka.dead_letters import Refused
from shared.kafka.records import Incoming

Row = tuple[object, ...]  # of payment_intents, refunds or disputes, its own id first and its payment's second


class EventRecord(msgspec.Struct, frozen=True):
    """An event and the record that brought it."""

    event: Event
    record: Incoming


class LedgerLine(msgspec.Struct, frozen=True):
    """One line of the payment ledger; states are what `payments.events` shows, None where no payment is known.

    `announcement` names the change in the metrics and in the emitted event; the ledger does not keep it.
    """

    item: EventRecord
    decision: Decision
    payment_id: str | None = None
    reason: str | None = None
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    announcement: Announcement | None = None


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What the database holds, read under locks: payments by id, ids by key, inbox entries, events waiting by key.

    `held` are the ids of waiting events that were refused when their payment came: only a replay tries them again. `unreadable`
    are waiting events, by key, that are no events any more by today's rules, with the reason. `stored` are the rows that hold
    the payments' intents, refunds and disputes; `older` are the payments that only the older application wrote.
    """

    payments: Mapping[str, Payment]
    links: Mapping[str, str]
    known: Mapping[str, Entry]
    waiting: Mapping[str, Sequence[EventRecord]]
    held: frozenset[str] = frozenset()
    unreadable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    stored: AbstractSet[Row] = frozenset()
    older: AbstractSet[str] = frozenset()


@dataclass(slots=True)
class BatchDecision:
    """What to write in this transaction and to publish after it.

    `entries` are inbox rows of events whose payment is locked. `loose` are those of events that touch no payment: another
    process may be writing the same ones at the same time. `freed` are the ids of waiting events in the order in which they were
    folded: an event comes behind those that it freed. `settled` are, by reason, the aggregates whose open matters are resolved.
    """

    payments: dict[str, Payment] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    loose: dict[str, Entry] = field(default_factory=dict)
    lines: list[LedgerLine] = field(default_factory=list)
    charges: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, EventRecord] = field(default_factory=dict)
    freed: list[str] = field(default_factory=list)
    refused_waiting: set[str] = field(default_factory=set)
    attention: list[Matter] = field(default_factory=list)
    settled: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    emitted: list[Emitted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def decide(
    loaded: LoadedState, items: Iterable[EventRecord], *, at: datetime, unfit: Mapping[str, str] | None = None
) -> BatchDecision:
    """Fold a batch; `at` becomes the time of the events that it emits.

    `unfit` are waiting events that must not be folded when they are freed, with the reason.
    """
    batch = _Batch(loaded, at, unfit or {})
    for item in items:
        batch.take(item)
    return batch.decided


def state(of: Payment, shown: Shown) -> messages.PaymentState:
    """Return a payment, and what is shown of it, as `payments.events` has it."""
    return messages.PaymentState(
        payment_id=uuid.UUID(of.id),
        booking_id=uuid.UUID(of.booking_id),
        version=of.version,
        status=str(shown.status),
        paid=shown.paid,
        cancel_due=shown.cancel_due,
        amount_minor=of.amount_minor,
        currency=of.currency,
        amount_refunded_minor=shown.amount_refunded_minor,
        failure_reason=shown.failure_reason,
        dispute_open=shown.dispute_open,
        closed_reason=str(shown.closed_reason) if shown.closed_reason else None,
        slot_free=shown.slot_free,
    )


def mismatch(event: Event, known: Payment, links: Mapping[str, str]) -> str | None:
    """Return why an event must not change this payment: it names another payment's ids, or not our amount or currency.

    `links` maps the id of an intent, a session or a charge to its payment, as far as that is known.
    """
    if event.payment_id is not None and event.payment_id != known.id:
        return "payment_mismatch"
    for key in event.keys:
        if links.get(key, known.id) != known.id:
            return "payment_mismatch"
    if event.booking_id is not None and event.booking_id != known.booking_id:
        return "booking_mismatch"
    if event.session_id is not None and known.session_id is not None and event.session_id != known.session_id:
        return "session_mismatch"
    match event.fact:
        case Paid(currency=currency) if currency.upper() != known.currency:
            return "currency_mismatch"
        case Paid(amount_minor=amount) if amount != known.amount_minor:
            return "amount_mismatch"
        case RefundSeen() | ChargeRefunded() if event.currency is not None and event.currency.upper() != known.currency:
            return "currency_mismatch"
        case Paid() | RefundSeen() | ChargeRefunded() | Failed() | DisputeSeen() | Noted() | None:
            return None
        case _ as never:
            assert_never(never)


class _Batch:
    """The state that grows while a batch is folded."""

    def __init__(self, loaded: LoadedState, at: datetime, unfit: Mapping[str, str]) -> None:
        self.decided = BatchDecision()
        self._loaded = loaded
        self._unfit = unfit
        self._links = dict(loaded.links)
        self._waiting: dict[str, dict[str, EventRecord]] = {
            key: {item.event.id: item for item in items} for key, items in loaded.waiting.items()
        }
        self._taken: set[str] = set()  # ids of the waiting ones that this batch folded or refused
        self._at = at

    def take(self, item: EventRecord) -> None:
        """Decide about one event of the batch."""
        event = item.event
        if self._is_known(item):
            return
        if event.fact is None:
            self._unhandled(item, reason=None)
            return
        found = self._find(event)
        if found is None and not event.keys:
            self._unhandled(item, reason="names no payment, nor a session, intent or charge")
        elif found is None:
            self._wait(item)
        elif reason := mismatch(event, found, self._links):
            self._quarantine(item, found, reason)
            self.decided.refused.append(Refused(item.record, reason))
        else:
            is_replayed = self._remove_from_waiting(event) or event.id in self._loaded.held
            plan = _FoldPlan(found)
            self._plan(plan, item)
            emitted = self._carry_out(plan, item)
            if is_replayed:
                self.decided.freed.append(event.id)
            self.decided.entries[event.id] = _entry(item, emitted)
            self.decided.emitted += [Emitted(sent, item.record) for sent in emitted]

    def _is_known(self, item: EventRecord) -> bool:
        earlier = self.decided.entries.get(item.event.id) or self.decided.loose.get(item.event.id)
        entry = earlier or self._loaded.known.get(item.event.id)
        if entry is None:
            return False
        if (entry.topic, entry.partition, entry.offset) != _place(item):
            self.decided.lines.append(LedgerLine(item, Decision.DUPLICATE))
        if earlier is None:
            # The process that wrote the entry may have died before it could publish.
            self.decided.emitted += [Emitted(sent, item.record) for sent in entry.emitted]
        return True

    def _find(self, event: Event) -> Payment | None:
        named = (event.session_id, event.intent_id, event.charge_id)
        for payment_id in (event.payment_id, *(self._links.get(key) for key in named if key is not None)):
            if payment_id is not None and (found := self._payment(payment_id)):
                return found
        return None

    def _payment(self, payment_id: str) -> Payment | None:
        return self.decided.payments.get(payment_id) or self._loaded.payments.get(payment_id)

    def _unhandled(self, item: EventRecord, *, reason: str | None) -> None:
        self.decided.loose[item.event.id] = _entry(item, ())
        self.decided.lines.append(LedgerLine(item, Decision.UNHANDLED, reason=reason))

    def _wait(self, item: EventRecord) -> None:
        self._waiting.setdefault(item.event.keys[0], {})[item.event.id] = item
        self.decided.waiting[item.event.id] = item
        self.decided.lines.append(LedgerLine(item, Decision.WAITING, reason=f"no payment is known by {item.event.keys[0]}"))

    def _remove_from_waiting(self, event: Event) -> bool:
        """Return whether an event was waiting; it does not wait any more."""
        waited = False
        for key in event.keys:
            if self._waiting.get(key, {}).pop(event.id, None) is not None:
                waited = True
        return waited

    def _quarantine(self, item: EventRecord, known: Payment, reason: str) -> None:
        unchanged = _ledger_state(known, known.shown())
        self.decided.lines.append(LedgerLine(item, Decision.QUARANTINED, known.id, reason, before=unchanged, after=unchanged))
        self.decided.attention.append(Matter(reason, f"payment:{known.id}", item.event.id))

    def _plan(self, plan: "_FoldPlan", item: EventRecord) -> None:
        """Plan to fold the events that wait for the ids of this one, then this one. Raises what the fold does.

        In this order a refund that was seen before its success is published before it, and no booking is confirmed in between.
        """
        for key in item.event.keys:
            self._plan_waiting(plan, key)
        step = self._advance(plan.payment, item)
        plan.payment = step.now
        plan.steps.append(step)

    def _plan_waiting(self, plan: "_FoldPlan", key: str) -> None:
        """Plan to fold the events that wait under `key`, in the order of ids; a refused one stays, and blames only itself."""
        if key not in self._waiting and key not in self._loaded.unreadable:
            return
        unreadable = self._loaded.unreadable.get(key, {})
        plan.steps += [_UnreadableStep(event_id, reason, plan.payment.id) for event_id, reason in unreadable.items()]
        untried = sorted(self._waiting.get(key, {}).items())
        waiting = [one for one in untried if one[0] not in self._taken and one[0] not in plan.taken]
        # All at once: an event names the key under which it waits, and would otherwise free the others as its own.
        plan.taken.update(event_id for event_id, _ in waiting)
        for event_id, item in waiting:
            trial = plan.copy()
            try:
                reason = self._unfit.get(event_id) or mismatch(item.event, plan.payment, self._links)
                if reason is None:
                    self._plan(trial, item)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - any fault of a waiting event is its own, never its liberator's
                reason = f"broke_the_fold:{type(error).__name__}"
            if reason is None:
                plan.become(trial)
            else:
                plan.steps.append(_RefusalStep(item, plan.payment, reason))

    def _carry_out(self, plan: "_FoldPlan", item: EventRecord) -> tuple[bytes, ...]:
        """Decide what was planned for `item`; return all events to emit. What a freed event emits is stored with `item`."""
        emitted: tuple[bytes, ...] = ()
        self._taken |= plan.taken
        for step in plan.steps:
            match step:
                case _FoldStep(item=folded):
                    if folded is not item:
                        self.decided.waiting.pop(folded.event.id, None)
                        self.decided.freed.append(folded.event.id)
                        self.decided.entries[folded.event.id] = _entry(folded, ())
                    self._apply(step)
                    emitted += step.emitted
                case _UnreadableStep(event_id=event_id, reason=reason, payment_id=payment_id):
                    self.decided.attention.append(Matter(reason, f"payment:{payment_id}", event_id))
                    self.decided.refused_waiting.add(event_id)
                case _RefusalStep(item=refused, known=known, reason=reason):
                    self._quarantine(refused, known, reason)
                    self.decided.refused_waiting.add(refused.event.id)
                case _ as never:
                    assert_never(never)
        return emitted

    def _advance(self, before: Payment, item: EventRecord) -> "_FoldStep":
        """Return what an event does to its payment. Raises what the fold does."""
        event = item.event
        assert event.fact is not None
        emitted: tuple[bytes, ...] = ()
        outcome = payment.advance(before, event.fact, session_id=event.session_id, intent_id=event.intent_id)
        match outcome:
            case Changed(now=now, announcement=announcement, was=was, shown=shown):
                emitted = (messages.payment_event(announcement, state(now, shown), cause=event.id, at=self._at),)
                state_before, state_after = _ledger_state(before, was), _ledger_state(now, shown)
                line = LedgerLine(
                    item, Decision.APPLIED, now.id, before=state_before, after=state_after, announcement=announcement
                )
            case Unchanged(now=now, shown=shown):
                unchanged = _ledger_state(now, shown)
                line = LedgerLine(item, Decision.UNCHANGED, now.id, before=unchanged, after=unchanged)
        needed = tuple(Matter(reason, f"payment:{now.id}", event.id) for reason in payment.needs_a_person(before, now))
        return _FoldStep(item, before, now, line, emitted, needed, tuple(payment.needs_no_person(before, now)))

    def _apply(self, step: "_FoldStep") -> None:
        event, now = step.item.event, step.now
        if event.charge_id is not None and event.charge_id not in self._links:
            self.decided.charges[event.charge_id] = now.id
        for key in event.keys:
            self._links[key] = now.id
        self.decided.lines.append(step.line)
        self.decided.attention += step.matters
        for reason in step.settled:
            self.decided.settled[reason].append(f"payment:{now.id}")
        if now is not step.before or now.id in self._loaded.older:
            self.decided.payments[now.id] = now


class _FoldStep(msgspec.Struct, frozen=True):
    """What an event did to its payment; `matters` are opened, and those of the reasons in `settled` are resolved."""

    item: EventRecord
    before: Payment
    now: Payment
    line: LedgerLine
    emitted: tuple[bytes, ...]
    matters: tuple[Matter, ...]
    settled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _RefusalStep:
    """A waiting event that contradicts its payment, or cannot be folded."""

    item: EventRecord
    known: Payment
    reason: str


@dataclass(frozen=True, slots=True)
class _UnreadableStep:
    """A waiting event that is no event any more by today's rules."""

    event_id: str
    reason: str
    payment_id: str


_Step = _FoldStep | _RefusalStep | _UnreadableStep


@dataclass(slots=True)
class _FoldPlan:
    """What folding one event comes to, with all that it frees; nothing is decided before the whole plan has succeeded.

    `payment` is as the last step left it; `taken` are the ids of the waiting events among the steps.
    """

    payment: Payment
    steps: list[_Step] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def copy(self) -> "_FoldPlan":
        """Return one to try the next step in."""
        return _FoldPlan(self.payment, list(self.steps), set(self.taken))

    def become(self, trial: "_FoldPlan") -> None:
        """Go on from a trial that succeeded."""
        self.payment, self.steps, self.taken = trial.payment, trial.steps, trial.taken


def _ledger_state(of: Payment, shown: Shown) -> Mapping[str, object]:
    return {"version": of.version, **asdict(shown)}


def _place(item: EventRecord) -> tuple[str, int, int]:
    return item.record.topic, item.record.partition, item.record.offset


def _entry(item: EventRecord, emitted: tuple[bytes, ...]) -> Entry:
    return Entry(item.event.id, item.event.created, *_place(item), emitted)
