"""Recorded lives of one payment, as data: the events that Stripe sent, and the end written by hand from what they mean."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.builders import Sale, stripe_event

FIRST_CREATED = 1_790_000_000  # seconds; every event of a story keeps its own `created`, in whatever order it arrives


@dataclass(frozen=True)
class Story:
    """`events` makes them for one sale; status, refunded amount of 75.00 and booking are how the story ends."""

    name: str
    events: Callable[[Sale], list[dict]]
    status: str
    refunded_minor: int
    booking: str

    def told(self, sale):
        """The story's events for one sale, each with the same `created` for every sale."""
        return [event | {"created": FIRST_CREATED + n} for n, event in enumerate(self.events(sale))]


def dispute(sale, status, *, number=1):
    """A dispute's event: it names the intent alone."""
    about = {
        "id": f"du_{number}{sale.tag}",
        "object": "dispute",
        "amount": sale.amount_minor,
        "currency": sale.currency.lower(),
        "status": status,
        "payment_intent": sale.intent_id,
        "metadata": {},
    }
    kind = "created" if status in {"needs_response", "warning_needs_response"} else "closed"
    return stripe_event(f"charge.dispute.{kind}", about, tag=sale.tag)


def refund(sale, amount_minor, status, *, number=1):
    """One refund at one moment of its life."""
    kind = {"pending": "created", "failed": "failed"}.get(status, "updated")
    about = sale.refund(amount_minor, status, refund_id=f"re_{number}{sale.tag}")
    return about | {"type": f"refund.{kind}"}


STORIES = (
    Story("paid", lambda s: [s.succeeded(), s.completed()], "succeeded", 0, "confirmed"),
    Story(
        "declined twice, then paid",
        lambda s: [s.declined("generic_decline"), s.declined("insufficient_funds"), s.succeeded(), s.completed()],
        "succeeded",
        0,
        "confirmed",
    ),
    Story(
        "a delayed method, paid",
        lambda s: [s.completed(payment_status="unpaid"), s.delayed("succeeded"), s.succeeded()],
        "succeeded",
        0,
        "confirmed",
    ),
    Story(
        "a delayed method, failed",
        lambda s: [s.completed(payment_status="unpaid"), s.declined("debit_not_authorized"), s.delayed("failed")],
        "failed",
        0,
        "pending",
    ),
    Story("declined, then expired", lambda s: [s.declined(), s.expired()], "failed", 0, "pending"),
    Story("canceled", lambda s: [s.declined(), s.canceled(), s.expired()], "failed", 0, "pending"),
    Story(
        "paid by a second intent after the first was canceled",
        lambda s: [
            s.declined(),
            s.canceled(),
            s.succeeded(id=f"pi_second{s.tag}"),
            s.completed(payment_intent=f"pi_second{s.tag}"),
        ],
        "succeeded",
        0,
        "confirmed",
    ),
    Story(
        "refunded in part, twice",
        lambda s: [
            s.succeeded(),
            s.completed(),
            refund(s, 2000, "pending", number=1),
            refund(s, 2000, "succeeded", number=1),
            s.refunded(2000),
            refund(s, 1500, "succeeded", number=2),
            s.refunded(3500),
        ],
        "succeeded",
        3500,
        "confirmed",
    ),
    Story(
        "refunded in two parts that make it whole",
        lambda s: [
            s.declined(),
            s.succeeded(),
            s.completed(),
            refund(s, 5000, "succeeded", number=1),
            s.refunded(5000),
            refund(s, 2500, "succeeded", number=2),
            s.refunded(7500),
        ],
        "refunded",
        7500,
        "cancelled",
    ),
    Story(
        "refunded in full",
        lambda s: [
            s.declined(),
            s.succeeded(),
            s.completed(),
            refund(s, 7500, "pending"),
            refund(s, 7500, "succeeded"),
            s.refunded(7500),
        ],
        "refunded",
        7500,
        "cancelled",
    ),
    Story(
        "a full refund that failed in the end",
        lambda s: [
            s.succeeded(),
            s.completed(),
            s.refunded(7500),
            refund(s, 7500, "pending"),
            refund(s, 7500, "succeeded"),
            refund(s, 7500, "failed"),
        ],
        "succeeded",
        0,
        "cancelled",
    ),
    Story(
        "a refund that failed, and another that came through",
        lambda s: [
            s.succeeded(),
            refund(s, 4000, "succeeded", number=1),
            s.refunded(4000),
            refund(s, 4000, "failed", number=1),
            refund(s, 4000, "succeeded", number=2),
        ],
        "succeeded",
        4000,
        "confirmed",
    ),
    Story(
        "disputed twice, one won",
        lambda s: [
            s.succeeded(),
            s.completed(),
            dispute(s, "needs_response", number=1),
            dispute(s, "won", number=1),
            dispute(s, "warning_needs_response", number=2),
        ],
        "succeeded",
        0,
        "confirmed",
    ),
    Story(
        "disputed, lost, and the rest given back",
        lambda s: [
            s.declined(),
            s.succeeded(),
            s.completed(),
            dispute(s, "needs_response"),
            dispute(s, "lost"),
            refund(s, 7500, "succeeded"),
            s.refunded(7500),
        ],
        "refunded",
        7500,
        "cancelled",
    ),
)
