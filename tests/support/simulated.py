"""Bookings as Stripe, our database, the mailbox and others tell them when nothing is wrong, for whoever plants a mistake."""

import uuid
from dataclasses import dataclass, replace

from deploy.dev.simulation import comparison, letters, told
from deploy.dev.simulation.books import Charge, Dispute, Intent, Paper, Refund, Session
from deploy.dev.simulation.letters import Accepted, Addresses
from deploy.dev.simulation.rows import Booking, Letter, Matter, Payment, Rows
from deploy.dev.simulation.rows import Dispute as KeptDispute
from deploy.dev.simulation.rows import Refund as KeptRefund

PRICE = (6000, "USD")


@dataclass(frozen=True)
class Told:
    """What Stripe, our database and the mailbox say of bookings, and what others are told and shown of them."""

    papers: tuple
    rows: Rows
    mailbox: tuple
    prices: dict
    addresses: dict
    payments: dict
    bookings: dict
    shown: dict

    def differences(self):
        others = {"payments": self.payments, "bookings": self.bookings, "shown": self.shown}
        return [
            *comparison.compare(self.papers, self.rows, self.prices),
            *letters.compare(self.papers, self.rows, self.mailbox, self.addresses, self.prices),
            *told.compare(self.papers, self.rows, **others),
        ]

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

    def paid_twice(self):
        """A second session of the same booking was paid, too: the first payment holds, a person decides about the other."""
        self.paid()
        self.payment_id, self.tag = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.tag} twin")), f"{self.tag}t"
        self._checkout("complete", "paid", "succeeded", intent="succeeded", charges=("succeeded",))
        self.matters.append(Matter("payment_conflict:already_paid", f"booking:{self.booking_id}"))

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
        """Whether its end was seen before its beginning or after it, somebody was told of both."""
        self.disputed("lost", "lost")
        self.matters.append(Matter("dispute_lost", f"payment:{self.payment_id}"))

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
        made = Intent(intent_id, intent, error) if intent else None
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

    @property
    def texts(self):
        """What each letter says, by its Message-ID."""
        amounts = {
            letter.message_id: int(letter.cause.rpartition("/")[2]) for letter in self.letters if letter.kind == "refund"
        }
        return {
            letter.message_id: f"Booking ID: {self.booking_id}, ${amounts.get(letter.message_id, 6000) / 100:.2f}"
            for letter in self.letters
        }

    @property
    def messages(self):
        """What other services were told last of each payment; of one that nothing happened to, nothing."""
        return {
            payment.id: {
                "booking_id": self.booking_id,
                "status": payment.status,
                "paid": payment.status in {"succeeded", "refunded"},
                "cancel_due": self.status == "cancelled",
                "amount_minor": payment.amount_minor,
                "currency": payment.currency,
                "amount_refunded_minor": payment.refunded_minor,
                "dispute_open": any(dispute.status == "needs_response" for dispute in self.disputes),
                "slot_free": payment.status == "failed",
            }
            for payment in self.payments
            if payment.status != "pending"
        }

    @property
    def answers(self):
        """What the API shows of each payment."""
        return {
            payment.id: {
                "status": payment.status,
                "amount": f"{payment.amount_minor / 100:.2f}",
                "amount_refunded": f"{payment.refunded_minor / 100:.2f}",
                "currency": payment.currency,
            }
            for payment in self.payments
        }


KINDS = [name for name, kind in vars(Story).items() if not name.startswith("_") and not isinstance(kind, property)]
PAID = ["paid", "refunded_in_part", "disputed"]


def all_told(*kinds):
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
        tuple(
            Accepted(letter.message_id, (story.addresses.of(letter.role),), story.texts[letter.message_id])
            for story, letter in sent
        ),
        {story.booking_id: PRICE for story in stories},
        {story.booking_id: story.addresses for story in stories},
        {payment_id: data for story in stories for payment_id, data in story.messages.items()},
        {story.booking_id: {"status": story.status} for story in stories if story.status != "pending"},
        {payment_id: answer for story in stories for payment_id, answer in story.answers.items()},
    )
