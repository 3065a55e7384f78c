"""A tour of everything that the sandbox shows: every route, card, refund, dispute and refusal, once, always the same.

Leaves: the distinct bodies (answers, errors, events) for whoever judges shapes, and the requests for whoever judges those.
"""

import copy
import json
from dataclasses import dataclass, field
from functools import cache

from deploy.dev.stripe import cards, disputes
from deploy.dev.stripe.errors import ApiError
from tests.referees.stripe_mock import Request
from tests.support.stripe_offline import URL, OfflineStripe, pairs

SEED = 23
DAY_SECONDS = 86_400
ADDRESS = {"line1": "Rue 1", "city": "Paris", "postal_code": "75001", "country": "FR"}
ADDRESSED = {"name": "Ada", "address": ADDRESS, "carrier": "Post", "phone": "+33 1", "tracking_number": "1"}
TEXTS = {
    "description": "Coaching",
    "receipt_email": "ada@example.org",
    "statement_descriptor": "COACHING",
    "statement_descriptor_suffix": "ANA",
    "capture_method": "automatic_async",
    "setup_future_usage": "off_session",
}


@dataclass
class Tour:
    """What was shown, and what was asked, as `stripe_mock` takes it."""

    stripe: OfflineStripe = field(default_factory=lambda: OfflineStripe(SEED))
    bodies: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def call(self, name, wish=None, object_id=""):
        """Call, and keep what was asked and answered; return the answer, or the error's body where it is refused."""
        try:
            answer = self.stripe.call(name, copy.deepcopy(wish), object_id)
        except ApiError as refusal:
            answer = refusal.body("req_x")
        self.requests.append(Request.told(name, object_id, pairs(wish or {}), answer))
        return self._kept(answer)

    def look(self):
        for told in self.stripe.look():
            self._kept(told)

    def wait(self, seconds):
        known = len(self.stripe.told)
        self.stripe.pass_time(seconds)
        for told in self.stripe.told[known:]:
            self._kept(told)

    def _kept(self, body):
        self.bodies.append(copy.deepcopy(body))
        if body.get("object") != "event":
            self.look()
        return body


def order(amount=5000, currency="usd", **wish):
    product = {"name": "Coaching with Ana", "description": "60 minutes"}
    price = {"currency": currency, "unit_amount": amount, "product_data": product}
    return {"mode": "payment", "line_items": [{"price_data": price, "quantity": 1}], "success_url": f"{URL}/thanks"} | wish


def take():
    """Take the tour."""
    tour = Tour()
    for visit in (_cards, _accounts, _intents, _refunds, _disputes, _sessions, _catalogue, _endpoints, _lists, _refusals):
        visit(tour)
    return tour


@cache
def parameters():
    """Return every parameter that the tour uses and the sandbox takes, by its route."""
    return {each for request in take().requests if request.verdict == "taken" for each in request.parameters}


def distinct(bodies):
    """Return the bodies that differ in more than values: one for each kind, keys and words of few letters."""
    return list({_shape(body): body for body in bodies}.values())


def _shape(body):
    return json.dumps(_outline(body), sort_keys=True)


def _outline(value):
    match value:
        case dict():
            return {name: _outline(inner) for name, inner in value.items()}
        case list():
            return [_outline(inner) for inner in value]
        case str():
            # A status or a type is part of the shape, an id, an address or a sentence is not.
            return value if value.replace("_", "").replace(".", "").isalpha() and len(value) < 40 else "…"
        case bool() | None:
            return value
        case _:
            return 0


def _cards(tour):
    for card in cards.TEST_CARDS:
        wish = order(cancel_url=f"{URL}/back", customer_email="ada@example.org", metadata={"payment_id": "p-1"})
        session = tour.call("POST /v1/checkout/sessions", wish | {"payment_intent_data": {"metadata": {"payment_id": "p-1"}}})
        tour.stripe.pay(session, card.number)
        tour.look()
        intent = tour.call("GET /v1/payment_intents/{id}", {}, session["payment_intent"])
        if intent["status"] == "requires_action":
            tour.stripe.answer_bank(intent, passed=True)
            tour.look()
        tour.call(
            "GET /v1/checkout/sessions/{id}",
            {"expand": ["payment_intent.latest_charge", "line_items.data.price.product"]},
            session["id"],
        )
    tour.wait(10)


def _accounts(tour):
    for account in cards.SEPA_ACCOUNTS:
        session = tour.call("POST /v1/checkout/sessions", order(currency="eur"))
        tour.stripe.pay(session, account.number)
        tour.look()
    tour.wait(10)


def _intents(tour):
    for token in ("visa", "chargeDeclined", "authenticationRequired"):
        wish = {"amount": 5000, "currency": "usd", "payment_method": f"pm_card_{token}", "confirm": True}
        more = {"return_url": f"{URL}/back", "metadata": {"a": "1"}, "shipping": ADDRESSED, "payment_method_types": ["card"]}
        tour.call("POST /v1/payment_intents", wish | more)
    asked = tour.stripe.told[-1]["data"]["object"]
    tour.stripe.answer_bank(tour.stripe.world.get("intent", asked["id"]), passed=False)
    tour.look()
    wish = {"amount": 700, "currency": "usd", "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
    waiting = tour.call("POST /v1/payment_intents", wish | TEXTS | {"confirmation_method": "automatic"})
    tour.call("POST /v1/payment_intents/{id}", {"description": "Coaching", "metadata": {"b": "2"}}, waiting["id"])
    confirm = {"payment_method": "pm_card_visa", "return_url": f"{URL}/back", "receipt_email": "ada@example.org"}
    tour.call("POST /v1/payment_intents/{id}/confirm", confirm | {"off_session": True}, waiting["id"])
    wish = {"amount": 700, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True, "off_session": True}
    tour.call("POST /v1/payment_intents", wish)
    given_up = tour.call("POST /v1/payment_intents", {"amount": 700, "currency": "usd", "payment_method": "pm_card_visa"})
    tour.call("POST /v1/payment_intents/{id}/cancel", {"cancellation_reason": "abandoned"}, given_up["id"])


def _refunds(tour):
    for token in ("visa", "pendingRefund", "refundFail"):
        wish = {"amount": 5000, "currency": "usd", "payment_method": f"pm_card_{token}", "confirm": True}
        intent = tour.call("POST /v1/payment_intents", wish)
        refund = {"payment_intent": intent["id"], "reason": "requested_by_customer", "metadata": {"a": "1"}}
        part = tour.call("POST /v1/refunds", refund | {"amount": 1500})
        tour.call("POST /v1/refunds", {"charge": part["charge"]})
        tour.call("GET /v1/charges/{id}", {"expand": ["refunds", "payment_intent"]}, part["charge"])
        tour.call("POST /v1/refunds/{id}", {"metadata": {"b": "2"}}, part["id"])
        tour.call("POST /v1/refunds/{id}/cancel", {}, part["id"])
        tour.wait(10)
        tour.call("GET /v1/refunds/{id}", {"expand": ["charge", "payment_intent"]}, part["id"])
    tour.call("POST /v1/charges/{id}", {"description": "Coaching", "receipt_email": "ada@example.org"}, part["charge"])


def _disputes(tour):
    for token in ("createDispute", "createDisputeInquiry"):
        for said in (*disputes.WORDS, "undecided", None):
            wish = {"amount": 5000, "currency": "usd", "payment_method": f"pm_card_{token}", "confirm": True}
            intent = tour.call("POST /v1/payment_intents", wish)
            tour.wait(10)
            [dispute] = tour.call("GET /v1/disputes", {"payment_intent": intent["id"]})["data"]
            if said:
                answer = {"evidence": {"uncategorized_text": said}, "submit": True, "metadata": {"a": "1"}}
                tour.call("POST /v1/disputes/{id}", answer, dispute["id"])
            else:
                tour.call("POST /v1/disputes/{id}/close", {}, dispute["id"])
            tour.wait(10)
            tour.call("GET /v1/disputes/{id}", {"expand": ["charge", "payment_intent"]}, dispute["id"])


def _sessions(tour):
    many = order(
        client_reference_id="p-1",
        locale="en",
        submit_type="book",
        allow_promotion_codes=False,
        billing_address_collection="auto",
        phone_number_collection={"enabled": False},
        payment_method_types=["card"],
        expires_at=tour.stripe.now + 3600,
        ui_mode="hosted_page",
        payment_intent_data=TEXTS | {"shipping": ADDRESSED, "metadata": {"a": "1"}},
    )
    many["line_items"][0]["price_data"]["product_data"] |= {"images": [f"{URL}/ana.png"], "metadata": {"a": "1"}}
    session = tour.call("POST /v1/checkout/sessions", many)
    tour.call("POST /v1/checkout/sessions/{id}", {"metadata": {"a": "1"}}, session["id"])
    tour.call("GET /v1/checkout/sessions/{id}/line_items", {"limit": 1, "expand": ["data.price.product"]}, session["id"])
    tour.call("POST /v1/checkout/sessions/{id}/expire", {}, session["id"])
    session = tour.call("POST /v1/checkout/sessions", order())
    tour.call("GET /v1/payment_pages/{id}", {}, session["id"])
    confirm = {"payment_method": "pm_card_chargeDeclined", "expected_amount": 5000}
    tour.call("POST /v1/payment_pages/{id}/confirm", confirm, session["id"])
    tour.call("POST /v1/payment_pages/{id}/confirm", {"payment_method": "pm_card_visa"}, session["id"])
    tried = tour.call("POST /v1/checkout/sessions", order())
    tour.call("POST /v1/payment_pages/{id}/confirm", {"payment_method": "pm_card_chargeDeclined"}, tried["id"])
    tour.wait(2 * DAY_SECONDS)


def _catalogue(tour):
    wish = {"name": "Coaching", "description": "60 minutes", "images": [f"{URL}/ana.png"], "unit_label": "hour", "active": True}
    product = tour.call("POST /v1/products", wish | {"metadata": {"a": "1"}, "url": URL})
    tour.call("POST /v1/products/{id}", {"name": "Talk", "url": URL, "metadata": {"a": "2"}}, product["id"])
    tour.call("GET /v1/products/{id}", {}, product["id"])
    price = tour.call("POST /v1/prices", {"product": product["id"], "unit_amount": 1500, "currency": "usd"})
    sold = {"product_data": {"name": "Walk", "active": True, "metadata": {"a": "1"}}, "unit_amount": 10, "currency": "eur"}
    tour.call("POST /v1/prices", sold | {"nickname": "short", "lookup_key": "walk", "active": True, "metadata": {"a": "1"}})
    tour.call("POST /v1/prices/{id}", {"nickname": "long", "active": True, "lookup_key": "talk", "metadata": {}}, price["id"])
    tour.call("GET /v1/prices", {"product": product["id"], "active": True, "currency": "usd"})
    tour.call("GET /v1/products", {"active": True})
    tour.call("GET /v1/prices/{id}", {"expand": ["product"]}, price["id"])
    session = tour.call("POST /v1/checkout/sessions", order() | {"line_items": [{"price": price["id"], "quantity": 2}]})
    tour.call("GET /v1/checkout/sessions/{id}/line_items", {}, session["id"])
    payer = {"billing_details": {"email": "ada@example.org", "name": "Ada", "phone": "+33 1", "address": ADDRESS}}
    method = tour.call(
        "POST /v1/payment_methods", payer | {"type": "card", "card": {"token": "tok_visa"}, "metadata": {"a": "1"}}
    )
    typed = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    tour.call("POST /v1/payment_methods", {"type": "card", "card": typed})
    tour.call("POST /v1/payment_methods", {"type": "sepa_debit", "sepa_debit": {"iban": "AT611904300234573201"}})
    tour.call("POST /v1/payment_methods/{id}", {"metadata": {"a": "1"}}, method["id"])
    tour.call("GET /v1/payment_methods/{id}", {}, method["id"])


def _endpoints(tour):
    wish = {"url": f"{URL}/hook", "enabled_events": ["charge.succeeded", "refund.created"], "api_version": "2026-10-28.endive"}
    endpoint = tour.call("POST /v1/webhook_endpoints", wish | {"description": "ours", "metadata": {"a": "1"}})
    tour.call("GET /v1/webhook_endpoints/{id}", {}, endpoint["id"])
    tour.call("POST /v1/webhook_endpoints/{id}", {"disabled": True, "enabled_events": ["*"]}, endpoint["id"])
    tour.call("GET /v1/webhook_endpoints", {"limit": 100})
    tour.call("DELETE /v1/webhook_endpoints/{id}", {}, endpoint["id"])
    tour.call("GET /v1/account")


def _lists(tour):
    for what in ("checkout/sessions", "payment_intents", "charges", "refunds", "disputes", "products", "prices"):
        newest = tour.call(f"GET /v1/{what}", {"limit": 2, "created": {"gte": 1}})["data"][0]
        tour.call(f"GET /v1/{what}", {"starting_after": newest["id"], "limit": 1, "created": {"lt": 1 << 33, "lte": 1 << 33}})
        tour.call(f"GET /v1/{what}", {"ending_before": newest["id"], "created": {"gt": 0}})
    paid = tour.stripe.told[0]["data"]["object"]["id"]
    for what in ("checkout/sessions", "charges", "refunds", "disputes"):
        tour.call(f"GET /v1/{what}", {"payment_intent": paid, "expand": ["data.payment_intent"]})
    tour.call("GET /v1/checkout/sessions", {"status": "complete"})
    for what in ("refunds", "disputes"):
        tour.call(f"GET /v1/{what}", {"charge": tour.stripe.told[1]["data"]["object"]["id"]})
    tour.call("GET /v1/events", {"types": ["charge.succeeded", "charge.refunded"], "delivery_success": False, "limit": 100})
    told = tour.call("GET /v1/events", {"type": "charge.succeeded", "created": {"gt": 1, "gte": 1, "lte": 4_000_000_000}})[
        "data"
    ][0]
    tour.call("GET /v1/events", {"ending_before": told["id"], "limit": 1})
    tour.call("GET /v1/events", {"starting_after": told["id"], "limit": 1})
    tour.call("GET /v1/events/{id}", {}, told["id"])


def _refusals(tour):
    tour.call("POST /v1/checkout/sessions", order(wat="1"))
    tour.call("POST /v1/checkout/sessions", order(amount=1))
    tour.call("POST /v1/refunds", {})
    tour.call("POST /v1/refunds", {"charge": "ch_x", "amount": 0})
    tour.call("GET /v1/charges/{id}", {}, "ch_x")
    mistyped = {"number": "4242424242424241", "exp_month": 1, "exp_year": 2034}
    tour.call("POST /v1/payment_methods", {"type": "card", "card": mistyped})
