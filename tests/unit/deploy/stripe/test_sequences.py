"""Every test card and account: its events in Stripe's order, from the attempt to what follows by itself."""

import pytest

from deploy.dev.stripe import cards, checkout, disputes, payments, refunds
from deploy.dev.stripe.cards import BankAccount, Card
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.timetable import Timetable
from deploy.dev.stripe.world import World

URL = "http://127.0.0.1:1"
DAY = 24 * 3600

CREATED, ASKED = "payment_intent.created", "payment_intent.requires_action"
PAID = ["charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]
REFUSED = ["charge.failed", "payment_intent.payment_failed"]
BALANCE = ["charge.updated"]
DISPUTED = ["charge.dispute.created"]
WITHDRAWN = [*DISPUTED, "charge.dispute.funds_withdrawn"]
ON_ITS_WAY = ["charge.pending", "checkout.session.completed", "payment_intent.processing"]
ARRIVED = ["charge.succeeded", "payment_intent.succeeded", "checkout.session.async_payment_succeeded"]
RETURNED = [*REFUSED, "checkout.session.async_payment_failed"]


class Shop:
    """One session in a new world, its clock, and what happens by itself."""

    def __init__(self, currency="usd"):
        self.now = 1000
        self.world = World(seed=1)
        self.timetable = Timetable(self.world, URL)
        price = {"currency": currency, "unit_amount": 5000, "product_data": {"name": "Coaching"}}
        wish = {"success_url": URL, "line_items": [{"price_data": price, "quantity": 1}]}
        self.session = checkout.create(self.world, wish, now=self.now, public_url=URL)
        self.told()

    @property
    def at(self):
        return At(self.now, URL, event.cause())

    @property
    def intent(self):
        return self.world.get("intent", self.session["payment_intent"])

    @property
    def charge(self):
        return self.world.get("charge", self.intent["latest_charge"])

    @property
    def dispute(self):
        return self.world.get("dispute", self.charge["dispute"])

    def pay(self, number):
        paid_with = BankAccount(number) if number in cards.BY_IBAN else Card(number, 12, 2034)
        checkout.pay(self.world, self.session, paid_with, {"email": "a@b.org"}, self.at)
        return self.told()

    def answer(self, *, passed):
        payments.answer_challenge(self.world, self.intent, self.at, passed=passed)
        return self.told()

    def refund(self, **wish):
        refund = refunds.create(self.world, {"payment_intent": self.intent["id"]} | wish, self.at)
        return refund, self.told()

    def later(self, seconds=10):
        """Let time pass; the events of what happened by itself."""
        self.now += seconds
        told = []
        while self.timetable.act(self.now):
            told += self.told()
        return told

    def told(self):
        changes = self.world.take()
        for kind, thing in changes.objects:
            self.timetable.note(kind, thing)
        return [each["type"] for each in changes.events]


@pytest.mark.parametrize(
    ("number", "at_once", "later", "ends"),
    [
        ("4242424242424242", [CREATED, *PAID], BALANCE, ("complete", "paid", "succeeded")),
        *(
            (number, [CREATED, *REFUSED], [], ("open", "unpaid", "requires_payment_method"))
            for number in (
                *("4000000000000002", "4000000000009995", "4000000000009987", "4000000000009979"),
                *("4000000000000069", "4000000000000127", "4000000000000119"),
            )
        ),
        *(
            (number, [CREATED, ASKED], [], ("open", "unpaid", "requires_action"))
            for number in ("4000002500003155", "4000002760003184", "4000000000003220", "4000008400001629")
        ),
        ("4000000000000259", [CREATED, *PAID], [*WITHDRAWN, *BALANCE], ("complete", "paid", "succeeded")),
        ("4000000000001976", [CREATED, *PAID], [*DISPUTED, *BALANCE], ("complete", "paid", "succeeded")),
        ("4000000000007726", [CREATED, *PAID], BALANCE, ("complete", "paid", "succeeded")),
        ("4000000000005126", [CREATED, *PAID], BALANCE, ("complete", "paid", "succeeded")),
        ("AT611904300234573201", [CREATED, *ON_ITS_WAY], [*ARRIVED, *BALANCE], ("complete", "paid", "succeeded")),
        ("AT861904300235473202", [CREATED, *ON_ITS_WAY], RETURNED, ("complete", "unpaid", "requires_payment_method")),
    ],
)
def test_every_number_does_what_it_is_for(number, at_once, later, ends):
    """What is told at once, what follows by itself, and how session, money and intent end."""
    shop = Shop("eur" if number in cards.BY_IBAN else "usd")

    assert shop.pay(number) == at_once
    assert shop.later() == later
    assert (shop.session["status"], shop.session["payment_status"], shop.intent["status"]) == ends


@pytest.mark.parametrize(
    ("number", "code", "decline_code", "advice"),
    [
        ("4000000000000002", "card_declined", "generic_decline", "try_again_later"),
        ("4000000000009995", "card_declined", "insufficient_funds", "try_again_later"),
        ("4000000000009987", "card_declined", "lost_card", "do_not_try_again"),
        ("4000000000009979", "card_declined", "stolen_card", "do_not_try_again"),
        ("4000000000000069", "expired_card", None, "do_not_try_again"),
        ("4000000000000127", "incorrect_cvc", None, "confirm_card_data"),
        ("4000000000000119", "processing_error", None, "try_again_later"),
    ],
)
def test_a_refusal_says_why(number, code, decline_code, advice):
    """In the intent's last error and on the charge; what the bank did not say is absent."""
    shop = Shop()
    shop.pay(number)
    error = shop.intent["last_payment_error"]

    assert (error["code"], error.get("decline_code"), error["advice_code"]) == (code, decline_code, advice)
    assert "decline_code" in error or decline_code is None
    assert (shop.charge["failure_code"], shop.charge["status"]) == (code, "failed")


def test_a_debit_is_unpaid_until_it_arrives():
    """The session is complete at once; the money is not there."""
    shop = Shop("eur")
    shop.pay("AT611904300234573201")

    assert (shop.session["status"], shop.session["payment_status"]) == ("complete", "unpaid")
    assert (shop.intent["status"], shop.intent["amount_received"]) == ("processing", 0)
    assert (shop.charge["status"], shop.charge["paid"]) == ("pending", False)


def test_a_customer_who_passed_may_still_be_declined():
    """3-D Secure first, then the bank's no."""
    shop = Shop()
    shop.pay("4000008400001629")

    assert shop.answer(passed=True) == REFUSED
    assert shop.session["status"] == "open"


def test_a_slow_refund_moves_no_money_until_it_arrives():
    """Pending: nothing on the charge, but not to be refunded twice; then the refund's change and the charge's."""
    shop = Shop()
    shop.pay("4000000000007726")
    refund, told = shop.refund(amount=2000)
    with pytest.raises(ApiError, match=r"\(\$30.01\) is greater than unrefunded amount on charge \(\$30.00\)"):
        shop.refund(amount=3001)

    assert (told, refund["status"], shop.charge["amount_refunded"]) == (["refund.created"], "pending", 0)
    assert shop.later() == [*BALANCE, "refund.updated", "charge.refund.updated", "charge.refunded"]
    assert (refund["status"], shop.charge["amount_refunded"], shop.charge["refunded"]) == ("succeeded", 2000, False)


def test_a_failing_refund_gives_the_money_back_to_the_shop():
    """First all looks well; then the refund fails, and the charge is not refunded any more."""
    shop = Shop()
    shop.pay("4000000000005126")
    shop.later()
    refund, told = shop.refund()
    assert (told, shop.charge["refunded"]) == (["refund.created", "charge.refunded"], True)

    assert shop.later() == ["refund.failed", "charge.refund.updated", "charge.updated"]
    assert (refund["status"], refund["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert (shop.charge["amount_refunded"], shop.charge["refunded"]) == (0, False)


def test_a_pending_refund_may_be_canceled_and_no_other():
    """What is on its way can be taken back once."""
    shop = Shop()
    shop.pay("4000000000007726")
    refund, _ = shop.refund()
    refunds.cancel(shop.world, refund, shop.at)

    assert shop.told() == ["refund.updated", "charge.refund.updated"]
    assert shop.later() == BALANCE
    with pytest.raises(ApiError):
        refunds.cancel(shop.world, refund, shop.at)
    assert shop.refund()[0]["amount"] == 5000


@pytest.mark.parametrize(
    ("evidence", "told", "status"),
    [
        ("winning_evidence", ["charge.dispute.funds_reinstated", "charge.dispute.closed"], "won"),
        ("losing_evidence", ["charge.dispute.closed"], "lost"),
        ("something else", [], "under_review"),
    ],
)
def test_evidence_decides_a_chargeback(evidence, told, status):
    """Submitted, reviewed, decided; the money comes back only to the winner."""
    shop = Shop()
    shop.pay("4000000000000259")
    shop.later()
    disputes.update(shop.world, shop.dispute, {"evidence": {"uncategorized_text": evidence}}, shop.at)

    assert (shop.told(), shop.dispute["status"]) == (["charge.dispute.updated"], "under_review")
    assert (shop.later(), shop.dispute["status"]) == (told, status)
    moved = [each["amount"] for each in shop.dispute["balance_transactions"]]
    assert moved == ([-5000, 5000] if status == "won" else [-5000])
    assert shop.dispute["is_charge_refundable"] == (status == "won")


def test_a_charge_whose_dispute_was_won_may_be_refunded():
    """The money is the shop's again, and the shop's to give back; both events of the end say so."""
    shop = Shop()
    shop.pay("4000000000000259")
    shop.later()
    disputes.update(shop.world, shop.dispute, {"evidence": {"uncategorized_text": "winning_evidence"}}, shop.at)
    shop.told()
    shop.later()
    said = [one["data"]["object"] for one in shop.world.tables["event"].values() if one["type"].startswith("charge.dispute.")]

    assert [(one["status"], one["is_charge_refundable"]) for one in said[-2:]] == [("won", True)] * 2
    assert shop.refund(amount=100)[0]["status"] == "succeeded"


def test_an_inquiry_moves_no_money_and_a_chargeback_forbids_refunds():
    """The two kinds of dispute differ in what may still be done."""
    asked, charged_back = Shop(), Shop()
    asked.pay("4000000000001976")
    charged_back.pay("4000000000000259")
    for shop in (asked, charged_back):
        shop.later()

    assert (asked.dispute["status"], asked.dispute["balance_transactions"]) == ("warning_needs_response", [])
    assert asked.refund(amount=100)[0]["status"] == "succeeded"
    with pytest.raises(ApiError) as refused:
        charged_back.refund(amount=100)
    assert refused.value.code == "charge_disputed"


def test_an_inquiry_that_escalates_is_a_chargeback():
    """Its money is withdrawn, refunds are over, and it wants an answer of its own, which decides as any chargeback's does."""
    shop = Shop()
    shop.pay("4000000000001976")
    shop.later()
    asked_until = shop.dispute["evidence_details"]["due_by"]
    disputes.update(shop.world, shop.dispute, {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}, shop.at)
    assert (shop.told(), shop.dispute["status"]) == (["charge.dispute.updated"], "warning_under_review")

    assert shop.later() == ["charge.dispute.updated", "charge.dispute.funds_withdrawn"]
    assert (shop.dispute["status"], shop.dispute["is_charge_refundable"]) == ("needs_response", False)
    assert shop.dispute["payment_method_details"]["card"]["case_type"] == "chargeback"
    assert shop.dispute["evidence_details"]["due_by"] > asked_until
    [withdrawn] = shop.dispute["balance_transactions"]
    assert (withdrawn["amount"], withdrawn["fee"], shop.dispute["balance_transaction"]) == (-5000, 1500, withdrawn["id"])
    with pytest.raises(ApiError) as refused:
        shop.refund(amount=100)
    assert refused.value.code == "charge_disputed"

    disputes.update(shop.world, shop.dispute, {"evidence": {"uncategorized_text": "winning_evidence"}}, shop.at)
    assert shop.told() == ["charge.dispute.updated"]
    assert shop.later() == ["charge.dispute.funds_reinstated", "charge.dispute.closed"]
    assert [each["amount"] for each in shop.dispute["balance_transactions"]] == [-5000, 5000]


def test_an_inquiry_that_escalates_and_is_not_answered_again_is_lost():
    """What was said to the inquiry is no answer to the chargeback."""
    shop = Shop()
    shop.pay("4000000000001976")
    shop.later()
    disputes.update(shop.world, shop.dispute, {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}, shop.at)
    shop.told()
    shop.later()

    assert (shop.later(20 * DAY), shop.dispute["status"]) == (["charge.dispute.closed"], "lost")


def test_a_chargeback_does_not_escalate():
    """The word is for inquiries; to a chargeback it is evidence like any other."""
    shop = Shop()
    shop.pay("4000000000000259")
    shop.later()
    disputes.update(shop.world, shop.dispute, {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}, shop.at)
    shop.told()

    assert (shop.later(), shop.dispute["status"]) == ([], "under_review")


def test_an_unanswered_dispute_is_lost_and_an_accepted_one_at_once():
    """Either the deadline closes it, or the shop."""
    waited, accepted = Shop(), Shop()
    for shop in (waited, accepted):
        shop.pay("4000000000000259")
        shop.later()
    disputes.close(accepted.world, accepted.dispute, accepted.at)

    assert (accepted.told(), accepted.dispute["status"]) == (["charge.dispute.closed"], "lost")
    assert (waited.later(20 * DAY), waited.dispute["status"]) == (["charge.dispute.closed"], "lost")
    with pytest.raises(ApiError, match="already closed"):
        disputes.close(waited.world, waited.dispute, waited.at)


def test_another_card_may_come_while_a_bank_still_waits():
    """The customer goes back from the bank's page and pays otherwise: nobody is asked any more."""
    shop = Shop()
    shop.pay("4000002500003155")

    assert shop.pay("4242424242424242") == PAID
    assert shop.intent["next_action"] is None
