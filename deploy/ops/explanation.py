"""Explain a story in plain words, in time order; pure.

Enters: a Story. Leaves: the present state, what happened step by step, and what is still open. Unknown words (a decision, a
reason or a state that newer code wrote) are shown as they are, never left out. Next: commands/why.py shows it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from deploy.ops.matters import Matter
from deploy.ops.story import Booking, BookingChange, Dispute, Letter, Line, Payment, State, Story, Waiting
from shared.domain import money
from shared.domain.booking import Status
from shared.domain.ledger import Decision
from shared.stripe_events import Kind
from shared.topics import BOOKINGS_EVENTS_DLT, EMAIL_DLT, PAYMENTS_EVENTS_DLT

REASONS = {
    "amount_mismatch": "the amount is not what we asked for",
    "currency_mismatch": "the currency is not what we asked for",
    "booking_mismatch": "it names another booking",
    "payment_mismatch": "it names another payment",
    "session_mismatch": "it names another session",
}
CONFLICTS = {
    "already_paid": "another payment holds the booking already",
    "cancelled": "the booking was cancelled before",
    "completed": "the booking was over already",
}
SUPPRESSIONS = {
    "cancelled_before_sent": "the booking was cancelled before it could be sent",
    "cancelled_perhaps_sent": "the booking was cancelled; an earlier sender may have handed it over without a record",
    "sent_by_older_application": "the older application had sent it",
    "confirmation_not_sent": "no confirmation had been sent, so neither is this",
    "payment_holds_no_booking": "the payment holds no booking",
    "superseded": "the refunded amount has changed since",
    "cancellation_tells": "all of it was given back, and the booking went: the letter of its cancellation says so",
    "paid_after_all": "the booking was paid after all",
}
BELIEVED = frozenset({Decision.APPLIED, Decision.UNCHANGED})
ON_ITS_WAY = frozenset({"queued", "sending", "retrying"})
# What a flag of a state says when it becomes true, and when it becomes false.
FLAGS = {
    "paid": ("paid", "no longer paid"),
    "cancel_due": ("all of it was given back: a booking that it holds goes", "no longer given back in full"),
    "dispute_open": ("disputed: Stripe may refuse refunds meanwhile", "the dispute is over"),
    "slot_free": ("the slot of the booking is free", "the slot of the booking is no longer free"),
}
EXPLAINED_FIELDS = {"version", "status", "amount_refunded_minor", "failure_reason", "closed_reason", *FLAGS}


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened. `about` is checkout, event, booking, letter or attention."""

    at: datetime
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A story in words: how things stand now, every step, and what still waits for an operator or an event."""

    now: tuple[str, ...]
    steps: tuple[Step, ...]
    open: tuple[str, ...]


def explain(story: Story, *, now: datetime) -> Explanation:
    """Explain a story as it is at `now`; where a booking has several payments, each is called by its number."""
    names = _names(story)
    return Explanation(tuple(_now(story, names)), tuple(_steps(story, names)), tuple(_open(story, names, now=now)))


def lines(explained: Explanation) -> Iterable[str]:
    """Return what a person reads: how things stand, then the steps, then what is open."""
    yield from explained.now
    yield ""
    yield from (f"{moment(step.at)}  {step.text}" for step in explained.steps)
    yield ""
    yield from (f"open: {line}" for line in explained.open)
    if not explained.open:
        yield "nothing is open"


def amount(minor: int, currency: str) -> str:
    """Return money as people write it: 75.00 USD, 8000 JPY."""
    return f"{money.to_decimal(minor, currency)} {currency.upper()}"


def moment(at: datetime) -> str:
    """Return a moment to the second, with its time zone: the operator's own may differ."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def difference(before: State, after: State, payment: Payment | None) -> str:
    """Say what an event changed in a payment, between two states of the ledger."""
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    said = []
    if "status" in changed:
        said.append(f"{before.get('status')} → {after.get('status')}")
    if "failure_reason" in changed:
        said.append(f"reason {after.get('failure_reason')}")
    if "amount_refunded_minor" in changed:
        said.append(_refunded(after, payment))
    said += [words[not after.get(flag)] for flag, words in FLAGS.items() if flag in changed and not _is_plain(flag, after)]
    if "closed_reason" in changed:
        said.append(f"closed as {after.get('closed_reason')}: it stops no new checkout")
    said += [f"{name} {before.get(name)} → {after.get(name)}" for name in sorted(changed - EXPLAINED_FIELDS)]
    return ", ".join(said) or "nothing that is shown changed"


def _is_plain(flag: str, after: State) -> bool:
    """Return whether a flag says no more than the status does."""
    return flag == "paid" and after.get("status") == "succeeded"


def _names(story: Story) -> dict[object, str]:
    if len(story.payments) == 1:
        return {story.payments[0].id: "payment"}
    return {payment.id: f"payment {number}" for number, payment in enumerate(story.payments, start=1)}


def _now(story: Story, names: dict[object, str]) -> Iterator[str]:
    if story.booking is None:
        yield f"{story.asked} belongs to no payment that we know"
        return
    yield _booking(story.booking, names)
    for payment in story.payments:
        yield f"{names[payment.id]} {payment.id} is {_payment(payment)}"
        yield from _beside(payment, names[payment.id], story)
    if not story.payments:
        yield "nobody has begun to pay for it"


def _beside(payment: Payment, name: str, story: Story) -> Iterator[str]:
    """Say where money is that the status does not show: a refund under way, a dispute that was lost."""
    for refund in story.refunds:
        if refund.payment_id == payment.id:
            yield f"refund {refund.id} of {name}: {amount(refund.amount_minor, payment.currency)}, {refund.status}"
    for dispute in story.disputes:
        if dispute.payment_id == payment.id:
            lost = ": the customer's bank keeps the money" if dispute.status == "lost" else ""
            yield f"dispute {dispute.id} of {name}{_asked(dispute, story)} is {dispute.status}{lost}"


def _asked(dispute: Dispute, story: Story) -> str:
    """Say what the bank demands, according to the latest event of its dispute."""
    facts = [line.fact for line in story.lines if line.fact and line.fact.get("dispute_id") == dispute.id]
    sums = [said for fact in facts if (said := _sum(fact, "amount_minor"))]
    return f" for {sums[-1]}" if sums else ""


def _sum(fact: State, name: str) -> str | None:
    """Return a fact's amount as people write it; None when it has no amount or no currency."""
    minor, currency = fact.get(name), fact.get("currency")
    return amount(minor, currency) if isinstance(minor, int) and isinstance(currency, str) else None


def _booking(booking: Booking, names: dict[object, str]) -> str:
    held = f", held by {names.get(booking.payment_id, booking.payment_id)}" if booking.payment_id else ""
    return f"booking {booking.id} is {booking.status}{held}; its session is at {moment(booking.session_at)}"


def _payment(payment: Payment) -> str:
    said = [f"{payment.status}: {amount(payment.amount_minor, payment.currency)}"]
    if payment.amount_refunded_minor:
        said.append(f"{amount(payment.amount_refunded_minor, payment.currency)} given back")
    if payment.status == "failed" and payment.failure_reason:
        said.append(f"reason {payment.failure_reason}")
    if not payment.open:
        said.append(f"closed as {payment.closed_reason}" if payment.closed_reason else "closed by checkout")
    said += [name for name in (payment.intent_id, payment.session_id) if name]
    return ", ".join(said)


def _steps(story: Story, names: dict[object, str]) -> list[Step]:
    by_id = {payment.id: payment for payment in story.payments}
    waited = {line.event_id: line.recorded_at for line in story.lines if line.decision == Decision.WAITING}
    steps = [
        Step(
            payment.created_at,
            "checkout",
            f"{names[payment.id]}: checkout began, {amount(payment.amount_minor, payment.currency)}",
        )
        for payment in story.payments
    ]
    for line in story.lines:
        payment = by_id.get(line.payment_id) if line.payment_id else None
        prefix = f"{names[payment.id]}: " if payment else ""
        steps.append(
            Step(line.recorded_at, "event", f"{prefix}{line.event_type} ({line.event_id}) {_decided(line, payment, waited)}")
        )
    steps += [Step(change.at, "booking", _changed(change, names)) for change in story.changes]
    steps += [step for letter in story.letters for step in _letter(letter)]
    steps += [step for matter in story.matters for step in _matter(matter)]
    # Of equal moments the order above: an event, then what the booking made of it, then the letters.
    return sorted(steps, key=lambda step: step.at)


def _decided(line: Line, payment: Payment | None, waited: dict[str, datetime]) -> str:
    because = REASONS.get(line.reason or "", line.reason)
    since = waited.get(line.event_id)
    freed = f"after waiting since {moment(since)} " if since and line.decision != Decision.WAITING else ""
    change = difference(line.before or {}, line.after or {}, payment)
    fact = line.fact or {}
    match line.decision:
        case Decision.APPLIED:
            return f"{freed}was applied: {change}{_about(fact) or _total(fact, line.after or {})}"
        case Decision.UNCHANGED:
            return f"{freed}was taken: nothing that is shown changed{_about(fact) or _total(fact, line.after or {})}"
        case Decision.DUPLICATE:
            return f"came again, at {line.topic}/{line.partition}/{line.offset}: known, nothing happened twice"
        case Decision.WAITING:
            return f"came too early and waits: {because or 'its payment is not known'}{_about(fact) or _of(fact)}"
        case Decision.QUARANTINED:
            return f"{freed}was quarantined: {because}; it changed nothing{_about(fact) or _of(fact)}"
        case Decision.UNHANDLED:
            return "decides nothing here" + (f": {because}" if because else "") + (_about(fact) or _of(fact))
        case Decision.DROPPED:
            return f"was dropped for good: {because}"
        case unknown:
            return f"{freed}was {unknown}" + (f": {because}" if because else "")


def _about(fact: State) -> str:
    """Say which refund or dispute an event was about, of what amount and in what status; nothing of other events."""
    for kind in ("refund", "dispute"):
        if which := fact.get(f"{kind}_id"):
            said = _sum(fact, "amount_minor")
            return f" ({kind} {which}{f' of {said}' if said else ''}, {fact.get('status')})"
    return ""


def _total(fact: State, after: State) -> str:
    """Say which refunded total a charge reported, where it differs from the one shown: a refund failed, or more is known."""
    if fact.get("amount_refunded_minor") == after.get("amount_refunded_minor"):
        return ""
    said = _sum(fact, "amount_refunded_minor")
    return f" (its charge said {said} in all)" if said else ""


def _of(fact: State) -> str:
    """Say which amount an event named although it moved no money."""
    said = _sum(fact, "amount_minor") or _sum(fact, "amount_refunded_minor")
    return f" (it said {said})" if said else ""


def _changed(change: BookingChange, names: dict[object, str]) -> str:
    payment = names.get(change.payment_id, str(change.payment_id))
    match change.name:
        case "booking.confirmed":
            return f"booking: confirmed by {payment}"
        case "booking.cancelled":
            return f"booking: cancelled because of {payment}" + (f": {change.reason}" if change.reason else "")
        case "booking.payment_conflict":
            why = CONFLICTS.get(change.reason or "", change.reason)
            return f"booking: the money of {payment} confirms nothing: {why}; nobody is mailed"
        case unknown:
            return f"booking: {unknown} because of {payment}" + (f": {change.reason}" if change.reason else "")


def _letter(letter: Letter) -> Iterator[Step]:
    name = f"{letter.kind} letter to the {letter.role}"
    why = SUPPRESSIONS.get(letter.reason or "", letter.reason)
    if letter.state != "suppressed" or letter.updated_at != letter.queued_at:
        yield Step(letter.queued_at, "letter", f"{name}: due")
    twice = ", perhaps twice: a sender died before it could record the first" if letter.possible_duplicates else ""
    match letter.state:
        case "sent":
            yield Step(
                letter.sent_at or letter.updated_at,
                "letter",
                f"{name}: the mail server took it ({letter.answer}), attempt {letter.attempts}{twice}",
            )
        case "suppressed":
            yield Step(letter.updated_at, "letter", f"no {name}: {why}")
        case "dead":
            yield Step(letter.updated_at, "letter", f"{name}: given up after {_times(letter.attempts)}: {why}{twice}")
        case state:
            if state not in ON_ITS_WAY:
                yield Step(letter.updated_at, "letter", f"{name}: {state}" + (f": {why}" if why else ""))


def _matter(matter: Matter) -> Iterator[Step]:
    yield Step(matter.opened_at, "attention", f"a person was told: {matter.reason} (because of {matter.cause})")
    if matter.resolved_at:
        yield Step(matter.resolved_at, "attention", f"{matter.resolved_by} looked after {matter.reason}")


def _open(story: Story, names: dict[object, str], *, now: datetime) -> Iterator[str]:
    yield from (_waits(event) for event in story.waiting)
    yield from _not_taken(story, names)
    for letter in story.letters:
        if story.booking and letter.state == "dead" and not _is_moot(letter, story.booking):
            replay = f"cb-ops dlt replay {EMAIL_DLT.name} --id {story.booking.id} --by NAME"
            yield f"{letter.kind} letter to the {letter.role} was given up: mend the cause, then {replay}"
        if letter.state in ON_ITS_WAY:
            answer = f", last answer {letter.answer}" if letter.answer else ""
            yield f"{letter.kind} letter to the {letter.role} is {letter.state} after {_times(letter.attempts)}{answer}"
    ended = [line for line in story.lines if line.event_type == Kind.SESSION_COMPLETED and line.decision in BELIEVED]
    completed = {line.payment_id for line in ended}
    for payment in story.payments:
        if payment.open and payment.status in {"pending", "failed"} and payment.expires_at:
            yield _unpaid(names[payment.id], payment.expires_at, completed=payment.id in completed, now=now)
    for matter in story.matters:
        if matter.resolved_at is None:
            yield f"a person must look after {matter.reason}: cb-ops attention resolve {matter.id} --by NAME"


def _not_taken(story: Story, names: dict[object, str]) -> Iterator[str]:
    """Say which consumer has not processed its predecessor's message: it is not running, or the message is a dead letter.

    A payment that succeeded confirms its pending booking, whatever else is true of the two; no message was ever sent about a
    row of the older application that no event has changed (version 0). A payment that was refunded in full cancels the booking
    that it holds. A confirmation of ours gets its letters' rows at once, suppressed ones included.
    """
    if story.booking is None:
        return
    given_back = {line.payment_id for line in story.lines if line.after and line.after.get("cancel_due")}
    for payment in story.payments:
        if not payment.version:
            continue
        look = f"is it ready? cb-ops dlt list {PAYMENTS_EVENTS_DLT.name} --id {payment.id}"
        holds = story.booking.status == Status.CONFIRMED and story.booking.payment_id == payment.id
        if story.booking.status == Status.PENDING and payment.status == "succeeded":
            yield f"{names[payment.id]} is paid, and the bookings consumer has not taken that yet: {look}"
        elif holds and payment.id in given_back:
            yield f"{names[payment.id]} was given back in full, and the bookings consumer has not taken that yet: {look}"
    is_announced = any(change.name == "booking.confirmed" for change in story.changes)
    written = any(letter.kind == "confirmation" for letter in story.letters)
    if story.booking.status == Status.CONFIRMED and is_announced and not written:
        look = f"cb-ops dlt list {BOOKINGS_EVENTS_DLT.name} --id {story.booking.id}"
        yield f"the booking is confirmed, and no letter about that is written down yet: is the email consumer ready? {look}"


def _is_moot(letter: Letter, booking: Booking) -> bool:
    """Return whether a letter is no longer true or of no use, so that no operator has to replay it."""
    match letter.kind:
        case "confirmation":
            return booking.status in {Status.CANCELLED, Status.COMPLETED}
        case "payment_failed":
            return booking.status in {Status.CONFIRMED, Status.COMPLETED}
        case _:
            return False


def _unpaid(name: str, expires_at: datetime, *, completed: bool, now: datetime) -> str:
    if completed:
        return f"{name}: its checkout was completed, and whether the money comes is not told yet (a bank debit takes days)"
    if now < expires_at:
        return f"{name} can be paid until {moment(expires_at)}"
    return f"{name}: its checkout ended at {moment(expires_at)}, and no event tells how: cb-ops stripe reconcile"


def _waits(event: Waiting) -> str:
    kind = f"{event.event_type} ({event.event_id})" if event.event_type else event.event_id
    if event.state == "waiting":
        return f"{kind} has waited under {event.key} since {moment(event.seen_at)}"
    return f"{kind} waited under {event.key} and was {event.state}: cb-ops waiting show {event.event_id}"


def _refunded(after: State, payment: Payment | None) -> str:
    refunded = after.get("amount_refunded_minor")
    if payment is None or not isinstance(refunded, int):
        return f"amount_refunded_minor {refunded}"
    return f"{amount(refunded, payment.currency)} of {amount(payment.amount_minor, payment.currency)} given back"


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
