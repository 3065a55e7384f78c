"""The comparison of a simulation: books that agree have no difference, and each mistake that is planted is found."""

import uuid
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.dev.simulation import comparison, letters, outcomes
from deploy.dev.simulation.books import Charge, Dispute, Intent, Paper, Refund, Session
from deploy.dev.simulation.letters import Accepted, Addresses
from deploy.dev.simulation.rows import Booking, Letter, Matter, Payment, Rows, Waiting
from deploy.dev.simulation.rows import Dispute as KeptDispute
from deploy.dev.simulation.rows import Refund as KeptRefund

PRICE = (6000, "USD")


@dataclass(frozen=True)
class Told:
    """What Stripe, our database and the mailbox say of bookings."""

    papers: tuple
    rows: Rows
    mailbox: tuple
    prices: dict
    addresses: dict

    def differences(self):
        money = comparison.compare(self.papers, self.rows, self.prices)
        return [*money, *letters.compare(self.papers, self.rows, self.mailbox, self.addresses)]

    def having(self, **changed):
        return replace(self, rows=replace(self.rows, **changed))


class Story:
    """One booking, as all three tell it when nothing is wrong."""

    def __init__(self, number, kind):
        self.kind = kind
        self.booking_id, self.payment_id = (str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {what}")) for what in "bp")
        self.addresses = Addresses(f"client-{number}@x.example", f"coach-{number}@x.example")
        self.tag = f"{number:03}"
        self.papers, self.payments, self.refunds, self.disputes, self.matters, self.letters = [], [], [], [], [], []
        self.status, self.holder = "pending", None
        getattr(self, kind)()

    def untouched(self):
        """Nobody came."""

    def opened(self):
        self._checkout("open", "unpaid", "pending")

    def never_shown(self):
        """Stripe made the session and its answer was lost: the row was given up, and another one made."""
        self._checkout("open", "unpaid", "pending", session_kept=False)

    def asked(self):
        self._checkout("open", "unpaid", "pending", intent="requires_action")

    def declined(self):
        self._checkout("open", "unpaid", "failed", intent="requires_payment_method", charges=("failed",))

    def refused_at_the_bank(self):
        self._checkout("open", "unpaid", "failed", intent="requires_payment_method", error=True)

    def expired(self):
        self._checkout("expired", "unpaid", "failed", intent="canceled")

    def debit_sent_back(self):
        self._checkout("complete", "unpaid", "failed", intent="requires_payment_method", charges=("failed",))
        self._write("payment_failed", "client", self.payment_id)

    def paid(self, **changed):
        values = {"intent": "succeeded", "charges": ("failed", "succeeded"), "payment": "succeeded"} | changed
        self._checkout("complete", "paid", values.pop("payment"), **values)
        self.status, self.holder = "confirmed", self.payment_id
        self._write("confirmation", "client")
        self._write("confirmation", "coach")

    def refunded_in_part(self):
        self.paid(refunded=600)
        self._refund(600)
        self._write("refund", "client", f"{self.payment_id}/600")

    def refunded_in_parts(self):
        self.paid(refunded=6000, payment="refunded")
        self._refund(3600)
        self._refund(2400)
        self._cancel()

    def refunded_before_it_was_told(self):
        """Nobody was confirmed, so nobody is cancelled to."""
        self.paid(refunded=6000, payment="refunded")
        self._refund(6000)
        self._cancel()
        self.holder = None
        self.letters = [replace(letter, state="suppressed", reason="cancelled_before_sent") for letter in self.letters]

    def came_back(self):
        self.paid()
        self._refund(6000, status="failed", came_back=True)
        self._cancel()
        self.matters.append(Matter("refund_failed", f"payment:{self.payment_id}"))

    def disputed(self, stripe="needs_response", ours="needs_response"):
        self.paid()
        self._dispute(stripe, ours)
        self.matters.append(Matter("dispute_opened", f"payment:{self.payment_id}"))

    def disputed_further(self):
        """Which step an open dispute is at is told to nobody."""
        self.disputed("under_review")

    def dispute_lost(self):
        """Whether its end was seen before its beginning or after it, somebody was told."""
        self.disputed("lost", "lost")

    def refund_failed_in_part(self):
        """It was on its way and never left: the payment is as it was, and somebody owes the money."""
        self.paid()
        self._refund(600, status="failed")
        self.matters.append(Matter("refund_failed", f"payment:{self.payment_id}"))

    def _checkout(
        self, status, payment_status, payment, *, intent=None, charges=(), error=False, refunded=0, session_kept=True
    ):
        intent_id = f"pi_{self.tag}" if intent else None
        session = Session(f"cs_{self.tag}", self.payment_id, self.booking_id, status, payment_status, intent_id, *PRICE)
        made = Intent(intent_id, intent, PRICE[0] if intent == "succeeded" else 0, error) if intent else None
        taken = tuple(
            Charge(f"ch_{self.tag}{nth}", intent_id, end, PRICE[0], refunded if end == "succeeded" else 0)
            for nth, end in enumerate(charges)
        )
        self.papers.append(Paper(session, made, taken))
        kept = session.id if session_kept else None
        self.payments.append(Payment(self.payment_id, self.booking_id, kept, intent_id, *PRICE, payment, refunded))

    def _refund(self, amount, status="succeeded", *, came_back=False):
        refund = Refund(f"re_{self.tag}{len(self.refunds)}", f"pi_{self.tag}", status, amount, came_back)
        self.refunds.append(KeptRefund(refund.id, self.payment_id, status, amount))
        self.papers[-1] = replace(self.papers[-1], refunds=(*self.papers[-1].refunds, refund))

    def _dispute(self, stripe, ours):
        self.papers[-1] = replace(self.papers[-1], disputes=(Dispute(f"du_{self.tag}", f"pi_{self.tag}", stripe),))
        self.disputes.append(KeptDispute(f"du_{self.tag}", self.payment_id, ours))

    def _cancel(self):
        self.status = "cancelled"
        self._write("cancellation", "client")
        self._write("cancellation", "coach")

    def _write(self, kind, role, cause=""):
        message_id = f"<{self.tag}/{kind}/{role}>"
        self.letters.append(Letter(self.booking_id, kind, role, cause, "sent", "", message_id, 0))


KINDS = [name for name in vars(Story) if not name.startswith("_")]
PAID = ["paid", "refunded_in_part", "disputed"]


def told(*kinds):
    stories = [Story(number, kind) for number, kind in enumerate(kinds)]

    def all_of(name):
        return tuple(one for story in stories for one in getattr(story, name))

    sent = [(story, letter) for story in stories for letter in story.letters if letter.state == "sent"]
    return Told(
        all_of("papers"),
        Rows(
            bookings=tuple(Booking(story.booking_id, story.status, story.holder) for story in stories),
            **{name: all_of(name) for name in ("payments", "refunds", "disputes", "matters", "letters")},
        ),
        tuple(Accepted(letter.message_id, (story.addresses.of(letter.role),)) for story, letter in sent),
        {story.booking_id: PRICE for story in stories},
        {story.booking_id: story.addresses for story in stories},
    )


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=6))
def test_books_that_agree_have_no_difference(kinds):
    """Whatever happened, as long as all three tell the same."""
    world = told(*kinds)

    assert world.differences() == []
    assert outcomes.count(world.papers, world.rows).total() == len(kinds)


def first(rows, **changed):
    return (replace(rows[0], **changed), *rows[1:])


STATUSES = ["pending", "succeeded", "failed", "refunded"]
# What is planted into our side, or into Stripe's: the kinds of booking that can have it, what is done, what is told of it.
PLANTED = {
    "a payment is lost": (PAID, lambda w: w.having(payments=()), "session"),
    "a payment too many": (["untouched"], lambda w: w.having(payments=told("paid").rows.payments), "payment"),
    "paid, and not told": (["paid"], lambda w: w.having(payments=first(w.rows.payments, status="pending")), "status"),
    "a late decline": (PAID, lambda w: w.having(payments=first(w.rows.payments, status="failed")), "status"),
    "told, and not paid": (["declined"], lambda w: w.having(payments=first(w.rows.payments, status="succeeded")), "status"),
    "an expiry is lost": (["expired"], lambda w: w.having(payments=first(w.rows.payments, status="pending")), "status"),
    "a cent too much": (PAID, lambda w: w.having(payments=first(w.rows.payments, amount_minor=6001)), "amount asked"),
    "another currency": (PAID, lambda w: w.having(payments=first(w.rows.payments, currency="EUR")), "price of the booking"),
    "another session": (PAID, lambda w: w.having(payments=first(w.rows.payments, session_id="cs_x")), "session"),
    "a session unbound": (PAID, lambda w: w.having(payments=first(w.rows.payments, session_id=None)), "session"),
    "another intent": (PAID, lambda w: w.having(payments=first(w.rows.payments, intent_id="pi_x")), "intent"),
    "less refunded": (["refunded_in_part"], lambda w: w.having(payments=first(w.rows.payments, refunded_minor=0)), "refunded"),
    "a refund is lost": (["refunded_in_part"], lambda w: w.having(refunds=()), "refund"),
    "a refund of nobody": (PAID, lambda w: w.having(refunds=(KeptRefund("re_x", "p", "succeeded", 1),)), "refund"),
    "a refund that waits": (
        ["refunded_in_part"],
        lambda w: w.having(refunds=first(w.rows.refunds, status="pending")),
        "refund",
    ),
    "a dispute is lost": (["disputed"], lambda w: w.having(disputes=()), "dispute"),
    "a dispute goes on": (
        ["dispute_lost"],
        lambda w: w.having(disputes=first(w.rows.disputes, status="needs_response")),
        "dispute",
    ),
    "nobody is told": (
        ["disputed", "dispute_lost", "came_back", "refund_failed_in_part"],
        lambda w: w.having(matters=()),
        "matter for a person",
    ),
    "told for nothing": (
        ["paid"],
        lambda w: w.having(matters=(Matter("amount_mismatch", f"payment:{w.rows.payments[0].id}"),)),
        "matter for a person",
    ),
    "an event waits": (PAID, lambda w: w.having(waiting=(Waiting("evt_1", "pi_000"),)), "event that waits"),
    "not confirmed": (PAID, lambda w: w.having(bookings=first(w.rows.bookings, status="pending", payment_id=None)), "booking"),
    "held by another": (PAID, lambda w: w.having(bookings=first(w.rows.bookings, payment_id=str(uuid.uuid4()))), "booking"),
    "confirmed for nothing": (["declined"], lambda w: w.having(bookings=first(w.rows.bookings, status="confirmed")), "booking"),
    "cancelled for a part": (
        ["refunded_in_part"],
        lambda w: w.having(bookings=first(w.rows.bookings, status="cancelled")),
        "booking",
    ),
    "not cancelled": (["came_back"], lambda w: w.having(bookings=first(w.rows.bookings, status="confirmed")), "booking"),
    "the booking is lost": (["paid"], lambda w: w.having(bookings=()), "booking"),
    "charged twice": (
        ["paid"],
        lambda w: replace(w, papers=first(w.papers, charges=w.papers[0].charges * 2)),
        "money taken",
    ),
    "two sessions of one payment": (
        ["paid"],
        lambda w: replace(w, papers=(*w.papers, replace(w.papers[0], session=replace(w.papers[0].session, id="cs_x")))),
        "session",
    ),
    "a letter is lost": (PAID, lambda w: w.having(letters=w.rows.letters[1:]), "letters to client"),
    "a letter is dead": (PAID, lambda w: w.having(letters=first(w.rows.letters, state="dead")), "confirmation to client"),
    "confirmed, and not cancelled to": (["came_back"], lambda w: w.having(letters=w.rows.letters[:-1]), "letters to coach"),
    "a failure not told": (["debit_sent_back"], lambda w: w.having(letters=()), "payment_failed to client"),
    "a refund not told": (["refunded_in_part"], lambda w: w.having(letters=w.rows.letters[:-1]), "refund to client"),
    "a letter of a kind that nobody judges": (
        PAID,
        lambda w: replace(
            w.having(letters=(*w.rows.letters, replace(w.rows.letters[0], kind="receipt", message_id="<r>"))),
            mailbox=(*w.mailbox, replace(w.mailbox[0], message_id="<r>")),
        ),
        "receipt to client",
    ),
    "sent, and not there": (PAID, lambda w: replace(w, mailbox=w.mailbox[1:]), "confirmation to client"),
    "sent twice": (PAID, lambda w: replace(w, mailbox=(*w.mailbox, w.mailbox[0])), "confirmation to client"),
    "sent to another": (
        PAID,
        lambda w: replace(w, mailbox=(Accepted(w.mailbox[0].message_id, w.mailbox[1].to), *w.mailbox[1:])),
        "confirmation to client",
    ),
    "a letter from nowhere": (
        PAID,
        lambda w: replace(w, mailbox=(*w.mailbox, Accepted("<x>", w.mailbox[0].to))),
        "letter <x>",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
@settings(max_examples=15)  # of each mistake
@given(data=st.data())
def test_each_planted_mistake_is_found(name, data):
    """Among any bookings that agree, the one that does not is named, with the command that explains it."""
    kinds, plant, what = PLANTED[name]
    kind = data.draw(st.sampled_from(kinds))
    broken = plant(told(kind))
    # The bookings around it take the numbers after it, so that nothing of theirs is hit.
    around = told("untouched", *data.draw(st.lists(st.sampled_from(KINDS), max_size=3)))
    names = ("bookings", "payments", "refunds", "disputes", "matters", "letters", "waiting")
    both = Rows(**{one: getattr(broken.rows, one) + getattr(around.rows, one) for one in names})
    mine = told(kind)
    whole = Told(
        broken.papers + around.papers,
        replace(both, bookings=broken.rows.bookings + around.rows.bookings[1:]),
        broken.mailbox + around.mailbox,
        around.prices | mine.prices,
        around.addresses | mine.addresses,
    )

    found = whole.differences()

    assert what in {one.what for one in found}
    assert all(one.ask.startswith("cb-ops why ") for one in found)
    assert all("000" in one.ask or one.ask.split()[-1] in f"{mine.papers}{mine.rows}{broken}" for one in found)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", ["opened", "declined", "paid", "refunded_in_parts"])
def test_each_status_has_one_answer(kind, status):
    """Only what Stripe's objects mean fits."""
    world = told(kind)
    said = world.having(payments=first(world.rows.payments, status=status)).differences()

    assert ("status" in {one.what for one in said}) == (status != world.rows.payments[0].status)
