"""Whatever the sandbox tells of one payment, the product ends the same: in any order, with any copies of its events."""

import random
import uuid
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as some
from msgspec.structs import replace

from consumers.payments.translate import Event, translate
from deploy.dev.stripe import cards, disputes, forgeries
from deploy.dev.stripe.errors import ApiError
from shared.domain.payment import Payment, advance
from tests.support.stripe_offline import URL, OfflineStripe

AMOUNT = 5000
TIMING = {"version": 0, "closed": False, "slot_free": False}  # these tell of the order, and may
NUMBERS = [card.number for card in (*cards.TEST_CARDS, *cards.SEPA_ACCOUNTS)]
EVIDENCE = (*disputes.WORDS, "undecided")


class Life:
    """One session and everything that may come of it, drawn from a seed."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.stripe = OfflineStripe(seed)
        self.ids = {"payment_id": str(uuid.UUID(int=seed)), "booking_id": str(uuid.UUID(int=seed + 1))}
        price = {"currency": "eur", "unit_amount": AMOUNT, "product_data": {"name": "Coaching"}}
        wish = {"mode": "payment", "success_url": URL, "line_items": [{"price_data": price, "quantity": 1}]}
        ours = {"metadata": self.ids, "payment_intent_data": {"metadata": self.ids}}
        self.session = self.stripe.call("POST /v1/checkout/sessions", wish | ours)
        self.stripe.look()

    def live(self, steps):
        """Take so many steps, and then let everything come to its end; return what was told, in order."""
        doings = (
            self.pay,
            self.pay,
            self.answer_bank,
            self.refund,
            self.refund,
            self.dispute,
            self.dispute,
            self.wait,
            self.wait,
        )
        for _ in range(steps):
            self.chance.choice(doings)()
            self.stripe.look()
        self.stripe.pass_time(30 * 86_400)
        return [translate(forgeries.body(event)) for event in self.stripe.told]

    @property
    def intent(self):
        return self.stripe.world.tables["intent"].get(self.session["payment_intent"])

    @property
    def charge(self):
        paid = [charge for charge in self.stripe.world.tables["charge"].values() if charge["paid"]]
        return paid[0] if paid else None

    def pay(self):
        self.stripe.pay(self.session, self.chance.choice(NUMBERS))

    def answer_bank(self):
        if self.intent and self.intent["status"] == "requires_action":
            self.stripe.answer_bank(self.intent, passed=self.chance.random() < 0.7)

    def refund(self):
        self.tried("POST /v1/refunds", {"payment_intent": self.session["payment_intent"] or "pi_x"} | self.part())

    def part(self):
        return {"amount": self.chance.choice([1, 2000, 3000])} if self.chance.random() < 0.7 else {}

    def dispute(self):
        for dispute in self.stripe.world.tables["dispute"].values():
            wish = {"evidence": {"uncategorized_text": self.chance.choice(EVIDENCE)}}
            self.tried("POST /v1/disputes/{id}", wish, dispute["id"])

    def wait(self):
        self.stripe.pass_time(self.chance.choice([1, 3, 3600, 90_000]))

    def tried(self, name, wish, object_id=""):
        with suppress(ApiError):  # a refund before there is money, or evidence after the verdict
            self.stripe.call(name, wish, object_id)


def fold(life, events):
    known = Payment(id=life.ids["payment_id"], booking_id=life.ids["booking_id"], amount_minor=AMOUNT, currency="EUR")
    for event in events:
        if event.fact is not None:
            known = advance(known, event.fact, session_id=event.session_id, intent_id=event.intent_id).now
    return known


@settings(max_examples=150)
@given(seed=some.integers(0, 2**32), steps=some.integers(0, 12), data=some.data())
def test_for_every_seed_any_permutation_with_duplicates_folds_as_the_order_of_emission(seed, steps, data):
    """And it ends as things stand at Stripe: paid or not, and how much of it went back."""
    life = Life(seed)
    events = life.live(steps)
    copies = data.draw(some.lists(some.sampled_from(events), max_size=6))
    shuffled = [*events, *copies]
    random.Random(data.draw(some.integers(0, 2**32))).shuffle(shuffled)
    straight, anyhow = fold(life, events), fold(life, shuffled)

    assert all(isinstance(event, Event) for event in events), "each is an event that we can take"
    assert replace(straight, **TIMING) == replace(anyhow, **TIMING)
    assert (straight.status, straight.refunded_minor, straight.cancel_due) == (
        anyhow.status,
        anyhow.refunded_minor,
        anyhow.cancel_due,
    )
    assert straight.paid == (life.charge is not None)
    assert straight.refunded_minor == (life.charge["amount_refunded"] if life.charge else 0)


def test_the_drawn_lives_reach_what_matters():
    """The seeds reach what matters: refunds, disputes, failures after success, expiries, debits that are returned."""
    kinds = set()
    for seed in range(150):
        life = Life(seed)
        life.live(10)
        kinds |= {event["type"] for event in life.stripe.told}

    assert kinds >= {
        *("checkout.session.completed", "checkout.session.expired", "checkout.session.async_payment_failed"),
        *("payment_intent.payment_failed", "payment_intent.canceled", "charge.refunded", "refund.updated", "refund.failed"),
        *("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"),
    }
