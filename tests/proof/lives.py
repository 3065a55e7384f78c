"""Draws a manifest: bookings and payments as they stand before, and what Stripe sends about them, true and forged.

Enters: a source of chance, so that the same seed draws the same lives. Leaves: rows and bookings as tests/oracle.py tells
them, each payment's events, and deliveries: shuffled, some twice, some late, some never.
"""

import json
import uuid
from dataclasses import dataclass, field, replace

from tests import oracle
from tests.proof import seeding
from tests.proof.stories import FIRST_CREATED, dispute, refund
from tests.support.builders import Sale, bytes_of, stripe_event

PRICES = (("USD", 7500), ("EUR", 4999), ("JPY", 8000), ("KWD", 12_340), ("USD", 1))
DECLINES = ("generic_decline", "insufficient_funds", "expired_card", "authentication_required")
DAY_SECONDS = 86_400
TWINS, OLDER, ENDED = 0.06, 0.05, 0.05  # shares of bookings paid twice, of the older application's, cancelled or completed
NOISE = 0.02
JUNK = (b"", b"[]", b"\xff\xfe", b'{"id": "evt_junk"}', b'{"id":"evt_junk1","type":"refund.created","created":1,"data":{}}')


@dataclass
class Manifest:
    """What there is before, and every event of it; `junk` is what no event is."""

    bookings: list = field(default_factory=list)
    payments: list = field(default_factory=list)
    events: list = field(default_factory=list)
    junk: list = field(default_factory=list)


@dataclass(frozen=True)
class Deliveries:
    """The bodies in the order in which they come; `arrived` has every event that does once, `lost` those that never do."""

    bodies: list
    arrived: list
    lost: int
    copies: int
    junk: int


def draw(drawn, *, payments_min=0, events_min=0, forged):
    """Draw bookings until there are so many payments and true events; for each of these `forged` false ones on average."""
    manifest, timed = Manifest(), []
    while len(manifest.payments) < payments_min or len(timed) < events_min:
        moment = drawn.random()
        for told in _booking(manifest, drawn):
            moment += drawn.expovariate(200)
            timed.append((moment, told | {"created": FIRST_CREATED + int(moment * DAY_SECONDS)}))
    for moment, told in list(timed):
        if drawn.random() < forged:
            timed.append((moment, _forgery(told, drawn)))
        if drawn.random() < NOISE:
            timed.append((moment, stripe_event("customer.created", {"id": f"cus_{len(timed)}", "object": "customer"})))
        if drawn.random() < forged / 10:
            manifest.junk.append(drawn.choice(JUNK))
    manifest.events = [told for _, told in sorted(timed, key=lambda one: one[0])]
    return manifest


def deliver(manifest, drawn, *, disorder, copies, lost=0.0, late=0.0):
    """Put all events in a row: in Stripe's order but for `disorder`, which move anywhere; `late` ones come at the very end."""
    count = len(manifest.events)
    placed, arrived, never, again = [], [], 0, 0
    for place, event in enumerate(manifest.events):
        if drawn.random() < lost:
            never += 1
            continue
        arrived.append(event)
        at = drawn.uniform(0, count) if drawn.random() < disorder else place
        at += count if drawn.random() < late else 0
        placed.append((at, bytes_of(event)))
        while drawn.random() < copies:
            again += 1
            placed.append((drawn.uniform(at, 2 * count), bytes_of(event)))
    placed += [(drawn.uniform(0, count), body) for body in manifest.junk]
    bodies = [body for _, body in sorted(placed, key=lambda one: one[0])]
    return Deliveries(bodies, arrived, never, again, len(manifest.junk))


def _booking(manifest, drawn):
    """Add one booking with its payments; return what Stripe sends about them."""
    sale, kind = _sale(drawn), drawn.random()
    booking, row = oracle.Booking(sale.booking_id), _row(sale)
    rows, told = [row], _life(sale, drawn)
    if kind < OLDER:
        status, stands, settled = drawn.choice(
            [
                ("pending", "pending", False),
                ("failed", "pending", False),
                ("succeeded", "confirmed", True),
                ("refunded", "cancelled", True),
            ]
        )
        intent = sale.intent_id if status != "pending" else None
        rows = [replace(row, older_status=status, intent_id=intent)]
        booking = oracle.Booking(sale.booking_id, stands, settled=frozenset([sale.payment_id] if settled else []))
        told = [_without_metadata(event) for event in told]
    elif kind < OLDER + ENDED:
        booking = oracle.Booking(sale.booking_id, drawn.choice(["cancelled", "completed"]))
    elif kind < OLDER + ENDED + TWINS:
        twin = _sale(drawn, booking_id=sale.booking_id)
        rows = [replace(row, closed_by_checkout=True), _row(twin)]
        told += _life(twin, drawn)
        drawn.shuffle(told)
    manifest.bookings.append(booking)
    manifest.payments += rows
    return told


def _sale(drawn, **changes):
    currency, amount_minor = drawn.choice(PRICES)
    made = {
        "payment_id": _uuid(drawn),
        "booking_id": _uuid(drawn),
        "client_id": seeding.CLIENT_ID,
        "coach_id": seeding.COACH_ID,
        "amount_minor": amount_minor,
        "currency": currency,
        "tag": f"{drawn.getrandbits(64):016x}",
    }
    return Sale(**(made | changes))


def _row(sale):
    return oracle.Row(sale.payment_id, sale.booking_id, sale.amount_minor, sale.currency, sale.session_id)


def _life(sale, drawn):
    """What Stripe sends about one payment, in the order in which it happens."""
    told = [sale.declined(drawn.choice(DECLINES)) for _ in range(drawn.choice((0, 0, 0, 1, 2)))]
    end = drawn.choices(
        ("paid", "delayed", "two intents", "delayed failed", "expired", "canceled", "abandoned"), (60, 8, 4, 6, 9, 6, 7)
    )[0]
    match end:
        case "paid":
            told += drawn.sample([sale.succeeded(), sale.completed()], 2)
        case "delayed":
            told += [sale.completed(payment_status="unpaid"), sale.delayed("succeeded"), sale.succeeded()]
        case "two intents":
            second = f"pi_2{sale.tag}"
            told += [sale.canceled(), sale.succeeded(id=second), sale.completed(payment_intent=second)]
        case "delayed failed":
            told += [sale.completed(payment_status="unpaid"), sale.declined("debit_not_authorized"), sale.delayed("failed")]
        case "expired":
            told.append(sale.expired())
        case "canceled":
            told += [sale.canceled(), sale.expired()]
    if end in {"paid", "delayed"}:
        told += _given_back(sale, drawn) + _disputed(sale, drawn)
        told += [sale.declined("late")] * (drawn.random() < 0.05) + [sale.expired()] * (drawn.random() < 0.05)
    return told


def _given_back(sale, drawn):
    """Refunds of a paid payment, each with the charge's running total."""
    whole, part = sale.amount_minor, max(sale.amount_minor // 3, 1)
    plan = drawn.choices(("none", "part", "parts", "whole", "failed", "again"), (50, 14, 10, 14, 6, 6))[0]
    match plan:
        case "none":
            return []
        case "part":
            return [refund(sale, part, "pending"), refund(sale, part, "succeeded"), sale.refunded(part)]
        case "parts":
            rest = whole - part
            told = [refund(sale, part, "succeeded"), sale.refunded(part)]
            return told + ([refund(sale, rest, "succeeded", number=2), sale.refunded(whole)] if rest else [])
        case "whole":
            return [*[refund(sale, whole, "pending")] * drawn.randrange(2), refund(sale, whole, "succeeded"), sale.refunded()]
        case "failed":
            amount = drawn.choice([part, whole])
            return [
                refund(sale, amount, "pending"),
                sale.refunded(amount),
                refund(sale, amount, drawn.choice(["failed", "canceled"])),
            ]
        case "again":
            first = [refund(sale, part, "succeeded"), sale.refunded(part), refund(sale, part, "failed")]
            return [*first, refund(sale, part, "succeeded", number=2)]


def _disputed(sale, drawn):
    if drawn.random() > 0.06:
        return []
    told = [dispute(sale, "needs_response"), dispute(sale, drawn.choice(["won", "lost"]))]
    return told[: drawn.randint(1, 2)] + [dispute(sale, "warning_needs_response", number=2)] * drawn.randrange(2)


def _forgery(event, drawn):
    """A copy that lies: another amount or currency, another's booking, a payment or an intent that nobody knows."""
    forged = json.loads(json.dumps(event))
    forged["id"] += f"f{drawn.getrandbits(32):08x}"
    about = forged["data"]["object"]
    lies = ["nobody"] + ["booking"] * bool(about["metadata"]) + ["payment"]
    if forged["type"] == "payment_intent.succeeded" or about.get("payment_status") == "paid":
        lies += ["amount", "currency"] * 3
    match drawn.choice(lies):
        case "amount":
            field_name = "amount_total" if about["object"] == "checkout.session" else "amount_received"
            about[field_name] += drawn.choice([-1, 1, 100])
        case "currency":
            about["currency"] = "gbp"
        case "booking":
            about["metadata"]["booking_id"] = _uuid(drawn)
        case "payment":
            about["metadata"]["payment_id"] = _uuid(drawn)
        case "nobody":
            _nobodys(about, drawn)
    return forged


def _nobodys(about, drawn):
    """Ids that were never given out, in every place where one stands."""
    unknown = f"{drawn.getrandbits(64):016x}"
    if about["metadata"]:
        about["metadata"] = {"payment_id": _uuid(drawn), "booking_id": _uuid(drawn)}
    for name in ("payment_intent", "client_reference_id"):
        if about.get(name):
            about[name] = f"pi_x{unknown}" if name == "payment_intent" else _uuid(drawn)
    about["id"] = f"x_{unknown}"


def _without_metadata(event):
    """The older application named neither payment nor booking."""
    about = event["data"]["object"] | {"metadata": {}}
    return event | {"data": {"object": about | ({"client_reference_id": None} if "client_reference_id" in about else {})}}


def _uuid(drawn):
    return str(uuid.UUID(int=drawn.getrandbits(128), version=4))
