"""What no schema knows: sums, states, ids, links and the order of events, after every call that anybody may make.

The machine drives the endpoints' own table, form bodies included, with a clock that only it moves; nothing waits.
"""

import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from deploy.dev.stripe import cards, disputes
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.ids import stem_of
from tests.support.stripe_offline import URL, OfflineStripe

KINDS = list({card.behaviour: card for card in (*cards.TEST_CARDS, *cards.SEPA_ACCOUNTS)}.values())  # one for each behaviour
NUMBERS = some.sampled_from([card.number for card in KINDS])
TOKENS = some.sampled_from([card.token for card in KINDS if card.token in cards.BY_TOKEN])
AMOUNTS = some.one_of(some.none(), some.sampled_from([1, 2000, 3000]), some.integers(1, 6000))

IDS = {
    "session": r"cs_test_[0-9A-Za-z]{58}",
    "intent": r"pi_3[0-9A-Za-z]{23}",
    "charge": r"ch_3[0-9A-Za-z]{23}",
    "refund": r"re_3[0-9A-Za-z]{23}",
    "dispute": r"du_1[0-9A-Za-z]{23}",
    "method": r"pm_1[0-9A-Za-z]{23}",
    "event": r"evt_[13][0-9A-Za-z]{23}",
}
# kind of object -> status -> what it may become (docs.stripe.com: lifecycle of payments, refunds, disputes).
MOVES = {
    "checkout.session": {"open": {"complete", "expired"}},
    "payment_intent": {
        "requires_payment_method": {"requires_action", "processing", "succeeded", "canceled"},
        "requires_confirmation": {"requires_payment_method", "requires_action", "processing", "succeeded", "canceled"},
        "requires_action": {"requires_payment_method", "succeeded", "canceled", "processing"},
        "processing": {"succeeded", "requires_payment_method", "canceled"},
    },
    "charge": {"pending": {"succeeded", "failed"}},
    "refund": {"pending": {"succeeded", "canceled"}, "succeeded": {"failed"}},
    "dispute": {
        "needs_response": {"under_review", "lost"},
        "under_review": {"won", "lost"},
        "warning_needs_response": {"warning_under_review", "warning_closed"},
        "warning_under_review": {"warning_closed", "needs_response"},
    },
}
# What one event of an object may only come after.
AFTER = {
    "payment_intent.succeeded": {"payment_intent.created"},
    "payment_intent.payment_failed": {"payment_intent.created"},
    "payment_intent.requires_action": {"payment_intent.created"},
    "payment_intent.canceled": {"payment_intent.created"},
    "payment_intent.processing": {"payment_intent.created"},
    "charge.refunded": {"charge.succeeded"},
    "charge.updated": {"charge.succeeded"},
    "refund.updated": {"refund.created"},
    "refund.failed": {"refund.created"},
    "charge.dispute.updated": {"charge.dispute.created"},
    "charge.dispute.closed": {"charge.dispute.created"},
    "charge.dispute.funds_withdrawn": {"charge.dispute.created"},
    "charge.dispute.funds_reinstated": {"charge.dispute.funds_withdrawn", "charge.dispute.updated"},
    "checkout.session.async_payment_succeeded": {"checkout.session.completed"},
    "checkout.session.async_payment_failed": {"checkout.session.completed"},
}
AT_MOST_ONCE = {
    *("checkout.session.completed", "checkout.session.expired", "payment_intent.created", "payment_intent.succeeded"),
    *("charge.succeeded", "charge.failed", "refund.created", "charge.dispute.created", "charge.dispute.closed"),
}


class Stripe(RuleBasedStateMachine):
    """Shops, customers, banks and time, in any order."""

    sessions = Bundle("sessions")
    intents = Bundle("intents")
    refunds = Bundle("refunds")

    @initialize(seed=some.integers(0, 9))
    def open_world(self, seed):
        self.stripe = OfflineStripe(seed)

    # What may happen

    @rule(
        target=sessions, currency=some.sampled_from(["usd", "eur"]), amount=some.integers(40, 5000), count=some.integers(1, 3)
    )
    def a_shop_opens_a_session(self, currency, amount, count):
        item = {"currency": currency, "unit_amount": amount or 40, "product_data": {"name": "Coaching"}}
        wish = {"mode": "payment", "success_url": URL, "line_items": [{"price_data": item, "quantity": count}]}
        return self.made(self.call("POST /v1/checkout/sessions", wish))

    @rule(session_id=sessions, number=NUMBERS)
    def a_customer_pays_on_the_page(self, session_id, number):
        self.stripe.pay(self.world.get("session", session_id), number)
        self.stripe.look()

    @rule(number=NUMBERS, refunds=some.lists(AMOUNTS, max_size=3))
    def a_customer_buys_and_wants_it_back(self, number, refunds):
        item = {"currency": "eur", "unit_amount": 5000, "product_data": {"name": "Coaching"}}
        wish = {"mode": "payment", "success_url": URL, "line_items": [{"price_data": item, "quantity": 1}]}
        session = self.call("POST /v1/checkout/sessions", wish)
        self.a_customer_pays_on_the_page(session["id"], number)
        for amount in refunds:
            wish = {"payment_intent": session["payment_intent"]} | ({"amount": amount} if amount else {})
            self.call("POST /v1/refunds", wish)

    @rule(session_id=sessions, token=TOKENS)
    def a_script_pays(self, session_id, token):
        self.call("POST /v1/payment_pages/{id}/confirm", {"payment_method": f"pm_card_{token}"}, session_id)

    @rule(passed=some.booleans(), pick=some.integers(0, 99))
    def a_bank_is_answered(self, passed, pick):
        waiting = [intent for intent in self.world.tables["intent"].values() if intent["status"] == "requires_action"]
        if waiting:
            self.stripe.answer_bank(waiting[pick % len(waiting)], passed=passed)
            self.stripe.look()

    @rule(session_id=sessions)
    def a_shop_expires_a_session(self, session_id):
        self.call("POST /v1/checkout/sessions/{id}/expire", {}, session_id)

    @rule(target=intents, token=TOKENS, amount=some.integers(40, 5000), confirm=some.booleans())
    def a_shop_makes_an_intent(self, token, amount, confirm):
        wish = {"amount": amount, "currency": "usd", "payment_method": f"pm_card_{token}", "confirm": confirm}
        return self.made(self.call("POST /v1/payment_intents", wish))

    @rule(intent_id=intents, token=TOKENS)
    def a_shop_confirms_an_intent(self, intent_id, token):
        self.call("POST /v1/payment_intents/{id}/confirm", {"payment_method": f"pm_card_{token}"}, intent_id)

    @rule(intent_id=consumes(intents))
    def a_shop_cancels_an_intent(self, intent_id):
        self.call("POST /v1/payment_intents/{id}/cancel", {}, intent_id)

    @rule(target=refunds, pick=some.integers(0, 99), amounts=some.lists(AMOUNTS, min_size=1, max_size=3))
    def a_shop_refunds(self, pick, amounts):
        paid = [intent["id"] for intent in self.world.tables["intent"].values() if intent["status"] == "succeeded"]
        ids = paid or list(self.world.tables["intent"])
        asked = [{"payment_intent": ids[pick % len(ids)]} | ({"amount": some} if some else {}) for some in amounts if ids]
        made = [self.call("POST /v1/refunds", wish) for wish in asked]
        return multiple(*(answer["id"] for answer in made if answer))

    @rule(refund_id=refunds)
    def a_shop_takes_a_refund_back(self, refund_id):
        self.call("POST /v1/refunds/{id}/cancel", {}, refund_id)

    @rule(pick=some.integers(0, 99), said=some.sampled_from([*disputes.WORDS, "", None]))
    def a_shop_answers_a_dispute(self, pick, said):
        open_or_over = list(self.world.tables["dispute"])
        if open_or_over:
            dispute_id = open_or_over[pick % len(open_or_over)]
            wish = {"evidence": {"uncategorized_text": said}}
            name = "POST /v1/disputes/{id}" + ("/close" if said is None else "")
            self.call(name, {} if said is None else wish, dispute_id)

    @rule(seconds=some.sampled_from([0, 1, 2, 60, 3600, 90_000, 900_000]))
    def time_passes(self, seconds):
        self.stripe.pass_time(seconds)

    # How it is done

    @property
    def world(self):
        return self.stripe.world

    def call(self, name, wish, object_id=""):
        """Send a form; the answer, or None where it was refused: then nothing may have changed, unless a card was."""
        try:
            answer, declined = self.stripe.call(name, wish, object_id), False
        except ApiError as refused:
            answer, declined = None, refused.status == 402
        told = self.stripe.look()
        assert answer is not None or declined or told == []
        return answer

    @staticmethod
    def made(answer):
        return multiple() if answer is None else answer["id"]

    # What must hold

    @invariant()
    def refunds_add_up(self):
        """A charge shows the sum of what went back, never more than came, and is refunded exactly when all went."""
        for charge in self.world.tables["charge"].values():
            back = self.world.refunds_of(charge["id"])
            gone = sum(refund["amount"] for refund in back if refund["status"] == "succeeded")
            waiting = sum(refund["amount"] for refund in back if refund["status"] == "pending")
            assert charge["amount_refunded"] == gone
            assert gone + waiting <= charge["amount_captured"] or not charge["paid"]
            assert charge["refunded"] == (gone == charge["amount"])
            assert charge["paid"] or not back
            assert charge["paid"] == (charge["status"] == "succeeded") == (charge["amount_captured"] == charge["amount"])

    @invariant()
    def money_agrees(self):
        """Intent, charges and session tell one story."""
        for intent in self.world.tables["intent"].values():
            charges = [one for one in self.world.tables["charge"].values() if one["payment_intent"] == intent["id"]]
            paid = [one for one in charges if one["paid"]]
            succeeded = intent["status"] == "succeeded"
            assert len(paid) == succeeded
            assert intent["amount_received"] == (intent["amount"] if succeeded else 0)
            assert intent["latest_charge"] == (charges[-1]["id"] if charges else None)
            assert all(one["amount"] == intent["amount"] and one["currency"] == intent["currency"] for one in charges)
            assert (intent["next_action"] is not None) == (intent["status"] == "requires_action")
            assert (intent["canceled_at"] is not None) == (intent["status"] == "canceled")
            session = self.world.session_of(intent["id"])
            if session:
                assert session["payment_status"] == ("paid" if succeeded else "unpaid")
                assert session["status"] == "complete" or not succeeded
                assert (session["status"] == "expired") == (intent["status"] == "canceled")
                assert session["amount_total"] == intent["amount"]
        for session in self.world.tables["session"].values():
            assert (session["url"] is None) == (session["status"] != "open")
            assert (session["customer_details"] is not None) == (session["status"] == "complete")

    @invariant()
    def ids_name_what_they_should(self):
        """Every id has its kind's shape, and a payment's share their stem; every link leads somewhere."""
        for kind, shape in IDS.items():
            for thing_id in self.world.tables[kind]:
                assert re.fullmatch(shape, thing_id), thing_id
        for charge in self.world.tables["charge"].values():
            assert stem_of(charge["id"]) == stem_of(self.world.get("intent", charge["payment_intent"])["id"])
            assert not charge["dispute"] or self.world.get("dispute", charge["dispute"])["charge"] == charge["id"]
            assert charge["disputed"] == (charge["dispute"] is not None)
        for kind in ("refund", "dispute"):
            for thing in self.world.tables[kind].values():
                assert self.world.get("charge", thing["charge"])["payment_intent"] == thing["payment_intent"]

    @invariant()
    def withdrawn_money_came_back_only_to_winners(self):
        """The balance of a dispute follows its status."""
        for dispute in self.world.tables["dispute"].values():
            moved = sum(each["amount"] for each in dispute["balance_transactions"])
            nothing = dispute["status"] == "won" or dispute["status"].startswith("warning")
            assert moved == (0 if nothing else -dispute["amount"])
            assert dispute["is_charge_refundable"] == nothing

    @invariant()
    def events_tell_of_each_object_in_order(self):
        """No event before its cause or twice, statuses move as they may, and the last word is how things stand."""
        seen: dict[str, list] = {}
        for told in self.stripe.told:
            subject = told["data"]["object"]
            earlier = seen.setdefault(subject["id"], [])
            types = {one["type"] for one in earlier}
            assert AFTER.get(told["type"], set()) <= types, told["type"]
            assert told["type"] not in AT_MOST_ONCE & types, told["type"]
            assert "charge.dispute.closed" not in types, told["type"]
            if earlier and "status" in subject:
                was = earlier[-1]["data"]["object"]["status"]
                assert subject["status"] == was or subject["status"] in MOVES[subject["object"]].get(was, set())
            earlier.append(told)
        for kind in ("session", "intent", "charge", "refund", "dispute"):
            for thing in self.world.tables[kind].values():
                last = seen.get(thing["id"], [])[-1:]
                assert not last or last[0]["data"]["object"].get("status") == thing["status"]
                assert not last or kind != "charge" or last[0]["data"]["object"]["amount_refunded"] == thing["amount_refunded"]
        born = [told["created"] for told in self.stripe.told]
        assert born == sorted(born)
        assert len({told["id"] for told in self.stripe.told}) == len(self.stripe.told)


Stripe.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestInvariants = Stripe.TestCase
