"""A story in words, from values alone: what newer code wrote, and every money."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.email.kinds import Suppression
from consumers.payments import decide
from deploy.ops import explanation
from deploy.ops.matters import Matter
from deploy.ops.story import Booking, BookingChange, Dispute, Letter, Line, Payment, Refund, Story, Waiting
from shared.domain.booking import Conflict
from shared.domain.ledger import Decision

AT = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)
PAYMENT = Payment(
    id=uuid.UUID(int=1),
    status="pending",
    amount_minor=7500,
    amount_refunded_minor=0,
    currency="USD",
    version=0,
    failure_reason=None,
    closed_reason=None,
    open=True,
    session_id="cs_1",
    intent_id=None,
    created_at=AT,
    expires_at=AT + timedelta(hours=1),
)
BOOKING = Booking(uuid.UUID(int=2), "pending", None, AT + timedelta(days=7))
LINE = Line(
    recorded_at=AT,
    event_id="evt_1",
    event_type="payment_intent.succeeded",
    event_created=AT,
    payment_id=PAYMENT.id,
    decision="applied",
    reason=None,
    before={},
    after={},
    topic="stripe.events",
    partition=0,
    offset=1,
)
LETTER = Letter("confirmation", "client", "queued", None, 0, None, 0, AT, AT, None)
STORY = Story("x", BOOKING, (PAYMENT,))
STATES = st.dictionaries(
    st.sampled_from(["version", "status", "paid", "cancel_due", "amount_refunded_minor", "failure_reason", "newer"]),
    st.none() | st.booleans() | st.integers(0, 10**9) | st.text(max_size=5),
)


def said(**changes):
    [_checkout, *steps] = explanation.explain(replace(STORY, **changes), now=AT).steps
    return [step.text for step in steps]


def left_open(*, now=AT, **changes):
    return explanation.explain(replace(STORY, **changes), now=now).open


def line(**changes):
    return (replace(LINE, **changes),)


@pytest.mark.parametrize("decision", Decision)
def test_every_decision_has_words_of_its_own(decision):
    """Whoever adds a decision is told here that an operator would read a bare code."""
    [text] = said(lines=line(decision=decision, reason="why"))

    assert not text.endswith(f" {decision}: why")


@pytest.mark.parametrize("decision", [Decision.WAITING, Decision.QUARANTINED, Decision.UNHANDLED])
@pytest.mark.parametrize(
    ("fact", "sum_"),
    [
        ({"refund_id": "re_1", "status": "failed", "amount_minor": 90, "currency": "usd"}, "refund re_1 of 0.90 USD, failed"),
        ({"amount_refunded_minor": 300, "currency": "jpy"}, "it said 300 JPY"),
    ],
)
def test_of_an_event_that_moved_nothing_the_sum_is_told(decision, fact, sum_):
    """Money that waits, was not believed or belongs to nobody is no less money."""
    [text] = said(lines=line(decision=decision, reason="why", fact=fact))

    assert text.endswith(f" ({sum_})")


def test_words_that_newer_code_wrote_are_told_as_they_are():
    """A rolled-back release must not hide what the newer one recorded."""
    assert said(lines=line(decision="absorbed", reason="newly")) == [
        "payment: payment_intent.succeeded (evt_1) was absorbed: newly"
    ]
    assert said(letters=(replace(LETTER, state="burnt", reason="hot"),))[-1] == "confirmation letter to the client: burnt: hot"
    assert said(changes=(BookingChange(AT, "booking.moved", PAYMENT.id, "rain"),)) == [
        "booking: booking.moved because of payment: rain"
    ]
    assert said(changes=(BookingChange(AT, "booking.payment_conflict", PAYMENT.id, "newly"),)) == [
        "booking: the money of payment confirms nothing: newly; nobody is mailed"
    ]
    assert explanation.difference({"newer": 1}, {"newer": 2}, PAYMENT) == "newer 1 → 2"


@given(before=STATES, after=STATES)
def test_any_two_states_are_told_apart_or_said_to_be_equal(before, after):
    """Nothing that changed is left out, but for the version, and nothing breaks the page."""
    text = explanation.difference(before, after, PAYMENT)

    changed = {name for name in before | after if before.get(name) != after.get(name)} - {"version"}
    if changed - {"paid"}:
        assert text != "nothing that is shown changed"
    if not changed:
        assert text == "nothing that is shown changed"


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(7500, "usd", "75.00 USD"), (8000, "JPY", "8000 JPY"), (12340, "KWD", "12.340 KWD"), (5, "EUR", "0.05 EUR")],
)
def test_money_has_its_currencys_decimals(minor, currency, text):
    """A thousand yen are no ten."""
    assert explanation.amount(minor, currency) == text


def test_a_refund_that_failed_is_told_as_a_step_back():
    """The only way back from refunded."""
    before = {"status": "refunded", "amount_refunded_minor": 7500}
    after = {"status": "succeeded", "amount_refunded_minor": 0}

    assert explanation.difference(before, after, PAYMENT) == "refunded → succeeded, 0.00 USD of 75.00 USD given back"


def test_money_beside_a_payment_is_told_of_that_payment_alone_and_lost_only_where_it_is():
    """Of two payments, each with its own refund and disputes, each of these with what its events last asked for."""
    other = replace(PAYMENT, id=uuid.UUID(int=3))
    asked = [
        {"dispute_id": which, "amount_minor": minor, "currency": "usd"}
        for which, minor in [("du_1", 1000), ("du_2", 2000), ("du_1", 1500), ("du_2", 2500)]
    ]
    told = explanation.explain(
        Story(
            "x",
            BOOKING,
            (PAYMENT, other),
            refunds=(Refund("re_1", PAYMENT.id, "pending", 500), Refund("re_2", other.id, "succeeded", 700)),
            disputes=(Dispute("du_1", PAYMENT.id, "needs_response"), Dispute("du_2", other.id, "lost")),
            lines=tuple(replace(LINE, event_type="charge.dispute.created", fact=fact) for fact in asked),
        ),
        now=AT,
    )

    assert [line for line in told.now if line.startswith(("refund", "dispute"))] == [
        "refund re_1 of payment 1: 5.00 USD, pending",
        "dispute du_1 of payment 1 for 15.00 USD is needs_response",
        "refund re_2 of payment 2: 7.00 USD, succeeded",
        "dispute du_2 of payment 2 for 25.00 USD is lost: the customer's bank keeps the money",
    ]


def test_why_a_payment_failed_stands_in_how_it_is_now():
    """The first that a customer asks."""
    failed = replace(PAYMENT, status="failed", failure_reason="insufficient_funds")

    assert (
        explanation.explain(replace(STORY, payments=(failed,)), now=AT)
        .now[1]
        .endswith("is failed: 75.00 USD, reason insufficient_funds, cs_1")
    )


def test_what_is_open_is_told_at_the_end():
    """Whom or what it waits for: the customer, the mail server, a payment, a person."""
    matter = Matter(uuid.UUID(int=9), "dispute_opened", "payment:1", "evt_1", AT, None, None)
    told = left_open(
        letters=(replace(LETTER, state="retrying", attempts=2, answer="451 4.3.0"),),
        matters=(matter, replace(matter, resolved_at=AT, resolved_by="Ada")),
        waiting=(Waiting("evt_2", "charge.refunded", "pi_1", AT, "waiting"), Waiting("evt_3", None, "pi_1", AT, "refused")),
    )

    assert told == (
        "charge.refunded (evt_2) has waited under pi_1 since 2026-11-24 03:00:00 UTC",
        "evt_3 waited under pi_1 and was refused: cb-ops waiting show evt_3",
        "confirmation letter to the client is retrying after 2 attempts, last answer 451 4.3.0",
        "payment can be paid until 2026-11-24 04:00:00 UTC",
        f"a person must look after dispute_opened: cb-ops attention resolve {matter.id} --by NAME",
    )


def test_money_that_the_bookings_consumer_has_not_taken_is_open():
    """It stands, or the message is a dead letter: somebody has paid, and the booking does not say so."""
    paid = replace(PAYMENT, status="succeeded", version=1)

    assert left_open(payments=(paid,)) == (
        (
            "payment is paid, and the bookings consumer has not taken that yet: is it ready? "
            f"cb-ops dlt list payments.events.dlt --id {PAYMENT.id}"
        ),
    )


GIVEN_BACK = line(after={"status": "refunded", "cancel_due": True})


def test_a_full_refund_that_the_bookings_consumer_has_not_taken_is_open():
    """All was given back, and the booking that this payment holds still stands: its two people will meet for nothing."""
    refunded = replace(PAYMENT, status="refunded", version=2, open=False)

    assert left_open(booking=HELD, payments=(refunded,), lines=GIVEN_BACK, letters=(replace(LETTER, state="sent"),)) == (
        (
            "payment was given back in full, and the bookings consumer has not taken that yet: is it ready? "
            f"cb-ops dlt list payments.events.dlt --id {PAYMENT.id}"
        ),
    )


@pytest.mark.parametrize(
    ("booking", "told"),
    [
        (replace(BOOKING, status="confirmed", payment_id=uuid.UUID(int=8)), GIVEN_BACK),
        (replace(BOOKING, status="confirmed"), GIVEN_BACK),
        (replace(BOOKING, status="completed", payment_id=PAYMENT.id), GIVEN_BACK),
        (replace(BOOKING, status="cancelled", payment_id=PAYMENT.id), GIVEN_BACK),
        (replace(BOOKING, status="confirmed", payment_id=PAYMENT.id), line(after={"status": "refunded", "cancel_due": False})),
    ],
    ids=["another holds it", "nobody is known to", "it is over", "it was cancelled", "in parts, as yet without the charge"],
)
def test_a_full_refund_that_cancels_nothing_more_waits_for_no_consumer(booking, told):
    """A second payment's, one that came too late, or one of which a person decides."""
    refunded = replace(PAYMENT, status="refunded", version=2, open=False)

    assert left_open(booking=booking, payments=(refunded,), lines=told) == ()


def test_a_full_refund_of_the_older_application_waits_for_no_consumer():
    """Its events changed nothing that is shown: nothing was told, and what becomes of the booking was decided there."""
    refunded = replace(PAYMENT, status="refunded", version=0, open=False)
    [unchanged] = GIVEN_BACK

    assert left_open(booking=HELD, payments=(refunded,), lines=(replace(unchanged, decision="unchanged"),)) == ()


@pytest.mark.parametrize("booking", ["confirmed", "cancelled", "completed"])
def test_money_that_confirms_nothing_more_waits_for_no_consumer(booking):
    """Late or second money, and the older application's, whose booking names no payment."""
    paid = replace(PAYMENT, status="succeeded", version=1)

    assert left_open(booking=replace(BOOKING, status=booking), payments=(paid,)) == ()


@pytest.mark.parametrize("changes", [{"version": 0}, {"status": "refunded"}, {"status": "failed", "open": False}])
def test_a_payment_that_tells_no_booking_of_money_waits_for_no_consumer(changes):
    """A row of the older application that no event touched, money that went back before it came, and none at all."""
    assert left_open(payments=(replace(PAYMENT, **{"status": "succeeded", "version": 1} | changes),)) == ()


CONFIRMED = (BookingChange(AT, "booking.confirmed", PAYMENT.id, None),)
HELD = replace(BOOKING, status="confirmed", payment_id=PAYMENT.id)
SUCCEEDED = (replace(PAYMENT, status="succeeded", version=1),)


def test_a_confirmation_of_which_no_letter_is_written_down_is_open():
    """The email consumer stands, or the message is a dead letter: nobody knows that the booking is confirmed."""
    refund = replace(LETTER, kind="refund")

    for letters in (), (refund,):
        assert left_open(booking=HELD, payments=SUCCEEDED, changes=CONFIRMED, letters=letters)[0] == (
            "the booking is confirmed, and no letter about that is written down yet: is the email consumer ready? "
            f"cb-ops dlt list bookings.events.dlt --id {BOOKING.id}"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"changes": ()},
        {"booking": replace(HELD, status="cancelled")},
        {"booking": replace(HELD, status="completed")},
        {"letters": (replace(LETTER, state="sent"),)},
        {"letters": (replace(LETTER, state="suppressed", reason="sent_by_older_application"),)},
    ],
)
def test_a_confirmation_whose_letters_are_told_of_or_owed_by_nobody_is_not_open(changes):
    """Confirmed by the older application or longer ago than the inbox remembers, gone or over meanwhile, or written down."""
    assert left_open(**{"booking": HELD, "payments": SUCCEEDED, "changes": CONFIRMED} | changes) == ()


def test_a_letter_that_was_given_up_is_open_with_what_to_do():
    """A person mends its cause; nobody else will."""
    dead = replace(LETTER, role="coach", state="dead", reason="smtp_permanent:550", attempts=1)

    assert left_open(booking=HELD, payments=SUCCEEDED, letters=(dead,)) == (
        (
            "confirmation letter to the coach was given up: mend the cause, then "
            f"cb-ops dlt replay email.dlt --id {BOOKING.id} --by NAME"
        ),
    )


@pytest.mark.parametrize(
    ("kind", "status"), [("cancellation", "cancelled"), ("payment_failed", "cancelled"), ("refund", "completed")]
)
def test_a_letter_that_was_given_up_and_is_still_true_is_open_whatever_became_of_the_booking(kind, status):
    """Whose session does not take place, or whose money came back, has to hear of it."""
    dead = replace(LETTER, kind=kind, state="dead")
    [told] = left_open(booking=replace(HELD, status=status), payments=SUCCEEDED, letters=(dead,))

    assert told.startswith(f"{kind} letter to the client was given up")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("confirmation", "cancelled"),
        ("confirmation", "completed"),
        ("payment_failed", "confirmed"),
        ("payment_failed", "completed"),
    ],
)
def test_a_letter_that_was_given_up_and_says_what_is_not_true_any_more_is_not_open(kind, status):
    """Put back, it would be withheld."""
    dead = replace(LETTER, kind=kind, state="dead")

    assert left_open(booking=replace(HELD, status=status), payments=SUCCEEDED, letters=(dead,)) == ()


def test_a_letter_that_may_have_gone_twice_says_so():
    """The window that nobody can close is told, not hidden."""
    sent = replace(LETTER, state="sent", attempts=1, answer="250", possible_duplicates=1, sent_at=AT)

    for letter in sent, replace(sent, state="dead", reason="smtp_permanent:550"):
        assert said(letters=(letter,))[-1].endswith("perhaps twice: a sender died before it could record the first")


def test_a_letter_that_was_due_and_then_withheld_has_both_lines():
    """It stood in the queue when the booking was cancelled."""
    late = replace(LETTER, state="suppressed", reason="cancelled_before_sent", updated_at=AT + timedelta(seconds=1))

    assert said(letters=(late,)) == [
        "confirmation letter to the client: due",
        "no confirmation letter to the client: the booking was cancelled before it could be sent",
    ]


def test_who_looked_after_a_matter_is_part_of_the_story():
    """And when; nothing is open any more."""
    matter = Matter(uuid.UUID(int=9), "dispute_opened", "payment:1", "evt_1", AT, AT, "Ada")

    assert said(matters=(matter,)) == [
        "a person was told: dispute_opened (because of evt_1)",
        "Ada looked after dispute_opened",
    ]


def test_every_reason_of_the_pipeline_has_its_words():
    """A reason that is new in a consumer would be told as a code; here it is missed."""
    mismatches = {word for word in decide.mismatch.__code__.co_consts if isinstance(word, str) and word.endswith("_mismatch")}

    assert set(explanation.SUPPRESSIONS) == {str(one) for one in Suppression}
    assert set(explanation.CONFLICTS) == {str(one) for one in Conflict}
    assert set(explanation.REASONS) == mismatches


def test_a_checkout_that_ended_unheard_of_can_be_paid_no_more():
    """Its end is Stripe's to tell, and Stripe's event did not come."""
    ended = AT + timedelta(hours=1)
    unheard = "payment: its checkout ended at 2026-11-24 04:00:00 UTC, and no event tells how: cb-ops stripe reconcile"

    assert left_open(now=ended - timedelta(seconds=1)) == ("payment can be paid until 2026-11-24 04:00:00 UTC",)
    assert left_open(now=ended) == (unheard,)
    assert left_open(now=ended, payments=(replace(PAYMENT, status="failed"),)) == (unheard,)
    assert left_open(now=ended, payments=(replace(PAYMENT, open=False),)) == ()


def test_of_a_row_of_the_older_application_nobody_knows_when_it_ends():
    """It has no end; the page stands all the same."""
    assert left_open(payments=(replace(PAYMENT, expires_at=None),)) == ()


@pytest.mark.parametrize("now", [AT, AT + timedelta(days=2)])
@pytest.mark.parametrize("decision", ["applied", "unchanged"])
def test_a_checkout_that_was_completed_waits_for_its_money(now, decision):
    """A bank debit takes days: its customer has nothing more to pay, and no event is missing."""
    completed = line(event_type="checkout.session.completed", decision=decision)

    assert left_open(now=now, lines=completed) == (
        "payment: its checkout was completed, and whether the money comes is not told yet (a bank debit takes days)",
    )
    assert left_open(now=now, lines=line(event_type="checkout.session.completed", decision="quarantined")) != left_open(
        now=now, lines=completed
    )


def test_a_checkout_after_one_that_was_completed_in_vain_can_still_be_paid():
    """The bank debit failed, and the customer has begun anew: the older completion says nothing of this one."""
    again = replace(PAYMENT, id=uuid.UUID(int=3))
    completed = line(event_type="checkout.session.completed", decision="unchanged")

    assert left_open(payments=(replace(PAYMENT, status="failed", open=False), again), lines=completed) == (
        "payment 2 can be paid until 2026-11-24 04:00:00 UTC",
    )
