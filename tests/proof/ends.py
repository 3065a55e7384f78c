"""Hold what PostgreSQL and the topics say in the end against tests/oracle.py; every difference is one line of text."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.db.engine import rows
from tests import oracle

PAYMENTS = """
select id::text, booking_id::text, version, status::text, paid, cancel_due, coalesce(amount_minor, 0), currency,
       amount_refunded_minor, failure_reason, closed_reason, slot_free, closed_at is not null, stripe_payment_intent_id
from payments where id = any($1::uuid[])
"""
COLUMNS = ("status", "paid", "cancel_due", "amount_minor", "currency", "amount_refunded_minor", "failure_reason")
COLUMNS += ("closed_reason", "slot_free")
BOOKINGS = "select id::text, status::text, payment_id::text from bookings where id = any($1::uuid[])"
LEDGER = "select event_id, payment_id::text, decision, reason from payment_ledger order by id"
TAKEN = {"applied", "unchanged"}


@dataclass(frozen=True)
class Setting:
    """What was there before, and what was delivered: `events` has every delivered event once."""

    payments: Sequence[oracle.Row]
    bookings: Sequence[oracle.Booking]
    events: Sequence[Mapping]


@dataclass
class Story:
    """What the ledger tells of one event: who took it, every other decision, and reasons of refusal."""

    taken_by: list[str] = field(default_factory=list)
    decisions: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)


async def differences(engine, setting, *, payments_events, bookings_events):
    """Everything that is not as the oracle says; the messages are the values that were published, copies among them."""
    world = oracle.judge(setting.payments, setting.events)
    async with engine.begin() as tx:
        payments = {row[0]: row for row in await rows(tx, PAYMENTS, [row.payment_id for row in setting.payments])}
        bookings = {row[0]: row[1:] for row in await rows(tx, BOOKINGS, [b.booking_id for b in setting.bookings])}
        ledger = await rows(tx, LEDGER)
        waiting = {row[0]: row[1] for row in await rows(tx, "select event_id, state from waiting_events")}
        told = {row[0] for row in await rows(tx, "select cause from attention where reason like '%_mismatch'")}
    return [
        *_payments(setting, world, payments, _messages(payments_events)),
        *_events(setting, world, ledger, waiting, told),
        *_bookings(setting, world, bookings, _messages(bookings_events)),
        *_never_confirmed(setting, ledger, _messages(bookings_events)),
    ]


def _messages(values):
    """Messages by what they are about, each by its version; two with one id or one version must be the same bytes."""
    by_id, by_subject = {}, defaultdict(dict)
    for value in values:
        event = json.loads(value)
        assert by_id.setdefault(event["id"], value) == value, f"one id, two contents: {value} {by_id[event['id']]}"
        known = by_subject[event["subject"]].setdefault(event["data"]["version"], event)
        assert known == event, f"one version, two messages: {known} {event}"
    return by_subject


def _payments(setting, world, payments, messages):
    touched = set(world.taken.values())
    for row in setting.payments:
        truth, found = world.payments[row.payment_id], payments[row.payment_id]
        version, versions = found[2], messages.get(row.payment_id, {})
        if sorted(versions) != list(range(1, version + 1)):
            yield f"payment {row.payment_id}: version {version}, published {sorted(versions)}"
        if row.payment_id not in touched:
            if version:
                yield f"payment {row.payment_id}: no event is its own, yet version {version}"
            continue
        shown = dict(zip(COLUMNS, found[3:12], strict=True))
        wrong = {name: (value, truth.data[name]) for name, value in shown.items() if value != truth.data[name]}
        if wrong or (found[12], found[13]) != (truth.closed, truth.intent_id):
            yield f"payment {row.payment_id}: {wrong} {found[12:]} {truth}"
        newest = versions[version]["data"] if version else oracle.truth(row, []).data | {"version": 0}
        if newest != truth.data | {"version": version}:
            yield f"payment {row.payment_id}: newest message {newest}, truth {truth.data}"


def _events(setting, world, ledger, waiting, told):
    stories = defaultdict(Story)
    for event_id, payment_id, decision, reason in ledger:
        story = stories[event_id]
        story.decisions.add(decision)
        if decision in TAKEN:
            story.taken_by.append(payment_id)
        elif decision == "quarantined":
            story.reasons.add(reason)
    for event_id in {event["id"] for event in setting.events}:
        story, state = stories[event_id], waiting.get(event_id)
        owner, refusal = world.taken.get(event_id), world.refused.get(event_id)
        if story.taken_by != ([owner] if owner else []):
            yield f"event {event_id}: taken by {story.taken_by}, owner {owner}"
        if story.reasons != ({refusal} if refusal else set()) or (refusal and event_id not in told):
            yield f"event {event_id}: refused for {story.reasons}, due {refusal}"
        if (state == "waiting") != (event_id in world.waiting) or (state == "refused" and not refusal):
            yield f"event {event_id}: {state}, expected to wait {event_id in world.waiting}"
        if ("unhandled" in story.decisions) != (event_id in world.unhandled):
            yield f"event {event_id}: {story.decisions}, unhandled {event_id in world.unhandled}"


def stories_of_bookings(setting, bookings_events):
    """What was told of each booking in the order of its versions, and where that leads."""
    world, messages = oracle.judge(setting.payments, setting.events), _messages(bookings_events)
    return {booking_id: (story, end) for booking_id, story, end, _ in _stories(setting, world, messages)}


def _stories(setting, world, messages):
    of_booking = defaultdict(dict)
    for row in setting.payments:
        of_booking[row.booking_id][row.payment_id] = world.payments[row.payment_id]
    for booking in setting.bookings:
        versions = messages.get(booking.booking_id, {})
        story = [_told(versions[version]) for version in sorted(versions)]
        yield booking.booking_id, story, oracle.follow(booking, of_booking[booking.booking_id], story), sorted(versions)


def _bookings(setting, world, bookings, messages):
    for booking_id, story, end, versions in _stories(setting, world, messages):
        found = tuple(bookings[booking_id])
        if end.complaints or found != (end.status, end.payment_id) or versions != list(range(1, len(versions) + 1)):
            yield f"booking {booking_id}: {found}, told {story}, expected {end}"


def _never_confirmed(setting, ledger, messages):
    """A payment that the ledger shows given back before it was paid confirms nothing, in whatever order messages came."""
    events, by_payment = {event["id"]: event for event in setting.events}, defaultdict(list)
    for event_id, payment_id, decision, _ in ledger:
        if decision in TAKEN:
            by_payment[payment_id].append(events[event_id])
    judged = {
        (_told(event).payment_id)
        for versions in messages.values()
        for event in versions.values()
        if "cancelled" not in event["type"]
    }
    for row in setting.payments:
        if row.payment_id in judged and oracle.confirms_never(row, by_payment[row.payment_id]):
            yield f"payment {row.payment_id}: given back before it was paid, yet its booking took it"


def _told(event):
    data = event["data"]
    return oracle.Told(event["type"].removeprefix("com.culturebridge."), data["payment_id"], data["reason"])
