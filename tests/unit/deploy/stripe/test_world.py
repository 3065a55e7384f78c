"""What each card, refund and expiry does to the world, and which events tell of it, in Stripe's order."""

import pytest

from deploy.dev.stripe import checkout, payments, refunds
from deploy.dev.stripe.cards import Card
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.world import World
from tests.support.stripe_offline import OfflineStripe

URL = "http://127.0.0.1:1"
NOBODY = event.cause()


def at(now):
    return At(now, URL, NOBODY)


class Shop:
    """One session in a new world; remembers the events of every step."""

    def __init__(self, amount=5000, currency="usd", **wish):
        self.world = World(seed=1)
        price = {"currency": currency, "unit_amount": amount, "product_data": {"name": "Coaching"}}
        wish = {"success_url": URL, "line_items": [{"price_data": price, "quantity": 1}]} | wish
        self.session = checkout.create(self.world, wish, now=1000, public_url=URL)

    @property
    def intent(self):
        return self.world.get("intent", self.session["payment_intent"])

    def pay(self, number):
        card = Card(number, 12, 2034)
        self.outcome = checkout.pay(self.world, self.session, card, {"email": "a@b.org"}, at(1001))
        return self.told()

    def answer(self, *, passed):
        payments.answer_challenge(self.world, self.intent, at(1002), passed=passed)
        return self.told()

    def refund(self, **wish):
        return refunds.create(self.world, {"payment_intent": self.session["payment_intent"]} | wish, at(1003))

    def told(self):
        self.events = self.world.take().events
        return [each["type"] for each in self.events]


PAID = ["charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]
REFUSED = ["charge.failed", "payment_intent.payment_failed"]


def test_a_good_card_pays():
    """4242: intent, charge, success, completed."""
    shop = Shop(payment_intent_data={"metadata": {"payment_id": "p"}})

    assert ["payment_intent.created", *PAID] == shop.pay("4242424242424242")
    assert tuple(shop.session[key] for key in ("status", "payment_status", "url")) == ("complete", "paid", None)
    assert shop.intent["metadata"] == {"payment_id": "p"}
    assert shop.world.get("charge", shop.intent["latest_charge"])["metadata"] == {"payment_id": "p"}


def test_a_declined_card_leaves_the_session_open_and_the_next_card_pays_the_same_intent():
    """0002, then 4242: one intent, two charges, and the error is gone in the end."""
    shop = Shop()

    assert ["payment_intent.created", *REFUSED] == shop.pay("4000000000000002")
    failed = shop.events[-1]["data"]["object"]
    error = failed["last_payment_error"]
    assert (error["code"], error["decline_code"]) == ("card_declined", "generic_decline")
    assert shop.session["status"] == "open"
    assert shop.pay("4000000000000002") == REFUSED
    assert shop.pay("4242424242424242") == PAID
    assert failed["id"] == shop.intent["id"]
    assert shop.intent["last_payment_error"] is None
    assert len(shop.world.tables["charge"]) == 3


def test_three_d_secure_pays_when_it_is_completed():
    """3155: the bank asks first."""
    shop = Shop()

    assert shop.pay("4000002500003155") == ["payment_intent.created", "payment_intent.requires_action"]
    assert shop.answer(passed=True) == PAID
    assert shop.intent["next_action"] is None


def test_a_failed_three_d_secure_makes_no_charge():
    """The same, refused at the bank: no charge, the session stays open."""
    shop = Shop()
    shop.pay("4000002500003155")

    assert shop.answer(passed=False) == ["payment_intent.payment_failed"]
    assert shop.intent["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert shop.world.tables["charge"] == {}
    assert shop.session["status"] == "open"


def test_expiry_cancels_what_an_attempt_left():
    """An expired session with an intent takes the intent with it; one without takes nothing."""
    tried, untouched = Shop(), Shop()
    tried.pay("4000000000000002")
    for shop in (tried, untouched):
        checkout.expire(shop.world, shop.session, at(1005))

    assert tried.told() == ["checkout.session.expired", "payment_intent.canceled"]
    assert untouched.told() == ["checkout.session.expired"]
    with pytest.raises(ApiError):
        checkout.expire(tried.world, tried.session, at(1006))


def test_events_never_change():
    """An event shows its object as it was."""
    shop = Shop()
    shop.pay("4000000000000002")
    failed = shop.events[-1]["data"]["object"]
    shop.pay("4242424242424242")

    assert failed["status"] == "requires_payment_method"


@pytest.mark.parametrize(("currency", "amount", "wrong", "right"), [("kwd", 5120, 5, 10), ("isk", 5000, 50, 100)])
def test_a_part_of_a_currency_in_steps_is_a_step(currency, amount, wrong, right):
    """Whole krónur, ten fils: what cannot be charged cannot be given back either."""
    shop = Shop(amount, currency)
    shop.pay("4242424242424242")

    with pytest.raises(ApiError, match="evenly divisible"):
        shop.refund(amount=wrong)
    assert shop.refund(amount=right)["amount"] == right


def test_refunds_add_up_to_the_charge_and_not_a_cent_more():
    """Two parts, the second marks the charge; the third is refused, and so is too much at once."""
    shop = Shop()
    shop.pay("4242424242424242")
    with pytest.raises(ApiError, match="greater than unrefunded amount"):
        shop.refund(amount=5001)

    shop.refund(amount=1500)
    assert shop.told() == ["refund.created", "charge.refunded"]
    part = shop.events[-1]["data"]
    shop.refund()
    shop.told()
    full = shop.events[-1]["data"]

    assert (part["object"]["amount_refunded"], part["object"]["refunded"]) == (1500, False)
    assert {"amount_refunded", "receipt_url"} == set(part["previous_attributes"])
    assert (full["object"]["amount_refunded"], full["object"]["refunded"]) == (5000, True)
    assert {"amount_refunded", "receipt_url", "refunded"} == set(full["previous_attributes"])
    with pytest.raises(ApiError) as refused:
        shop.refund()
    assert refused.value.code == "charge_already_refunded"


@pytest.mark.parametrize(
    ("wish", "param", "code"),
    [
        ({"amount": 49}, None, "amount_too_small"),
        ({"amount": 100_000_000}, None, "amount_too_large"),
        ({"amount": 1_000_000_000_000, "currency": "idr"}, None, "amount_too_large"),
        ({"amount": 5121, "currency": "kwd"}, "line_items[0][price_data][unit_amount]", "parameter_invalid_integer"),
        ({"expires_at": 1000 + 30 * 60 - 1}, "expires_at", None),
        ({"expires_at": 1000 + 24 * 3600 + 1}, "expires_at", None),
    ],
)
def test_sessions_that_stripe_would_refuse_are_refused(wish, param, code):
    """Too little, too much, not payable in that currency, too short, too long."""
    with pytest.raises(ApiError) as refused:
        Shop(**wish)

    assert (400, param, code) == (refused.value.status, refused.value.param, refused.value.code)


@pytest.mark.parametrize(("currency", "most"), [("usd", 99_999_999), ("jpy", 99_999_999), ("idr", 999_999_999_999)])
def test_the_largest_amount_is_charged_and_not_one_more(currency, most):
    """Eight digits, and twelve of rupiah; on a page and without one, and all of it goes back."""
    shop = Shop(amount=most, currency=currency)
    shop.pay("4242424242424242")
    wish = {"amount": most, "currency": currency}
    stripe = OfflineStripe(1)

    assert shop.refund()["amount"] == most
    assert stripe.call("POST /v1/payment_intents", wish)["amount"] == most
    with pytest.raises(ApiError, match=r"^Amount must be no more than .*9") as refused:
        stripe.call("POST /v1/payment_intents", wish | {"amount": most + 1})
    assert (refused.value.param, refused.value.code) == ("amount", "amount_too_large")
