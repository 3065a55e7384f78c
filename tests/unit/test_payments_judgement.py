"""An event that contradicts our row changes nothing, whatever it says; pure."""

import uuid
from datetime import UTC, datetime

import pytest

from consumers.payments.decide import Decision, EventRecord, LoadedState, decide, mismatch
from consumers.payments.translate import translate
from shared import messages
from shared.domain import payment
from shared.domain.payment import Paid, RefundSeen, Shown
from shared.messages import PaymentState, payment_states
from tests.support.builders import Sale, bytes_of, record

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
STRANGER = str(uuid.UUID(int=7))
SALE, OTHER = Sale(), Sale()
SESSION = {"session_id": SALE.session_id}


def naming(**ids):
    return {"metadata": SALE.metadata | ids}


FORGED = {
    "another amount": (SALE.succeeded(amount_received=7499), "amount_mismatch"),
    "more than was asked": (SALE.succeeded(amount_received=7501), "amount_mismatch"),
    "another total of the session": (SALE.completed(amount_total=1), "amount_mismatch"),
    "another currency": (SALE.succeeded(currency="eur"), "currency_mismatch"),
    "another currency of the session": (SALE.completed(currency="jpy"), "currency_mismatch"),
    "another currency of the charge": (SALE.refunded(currency="jpy"), "currency_mismatch"),
    "another currency of the refund": (SALE.refund(currency="jpy"), "currency_mismatch"),
    "another booking": (SALE.succeeded(**naming(booking_id=STRANGER)), "booking_mismatch"),
    "another booking of a decline": (SALE.declined(**naming(booking_id=STRANGER)), "booking_mismatch"),
    "a payment that is not ours": (SALE.succeeded(**naming(payment_id=STRANGER)), "payment_mismatch"),
    "another payment of ours": (SALE.succeeded(metadata=OTHER.metadata), "payment_mismatch"),
    "another payment's intent": (OTHER.succeeded(metadata=SALE.metadata), "payment_mismatch"),
    "another session": (SALE.completed(id="cs_test_another"), "session_mismatch"),
}


def judged(*events):
    """Decide about events where both sales are known, with their sessions and intents."""
    loaded = LoadedState(
        payments={one.payment_id: one.payment(session_id=one.session_id) for one in (SALE, OTHER)},
        links={one.intent_id: one.payment_id for one in (SALE, OTHER)},
        known={},
        waiting={},
    )
    return decide(loaded, [EventRecord(translate(bytes_of(event)), record(event)) for event in events], at=AT)


@pytest.mark.parametrize("what", FORGED)
def test_what_contradicts_our_row_changes_nothing(what):
    """Quarantined with its reason, told to a person, kept as a dead letter; no state, no message, no inbox row."""
    event, reason = FORGED[what]

    decided = judged(event)

    [line] = decided.lines
    assert (line.decision, line.reason, line.before) == (Decision.QUARANTINED, reason, line.after)
    assert [(a.reason, a.cause) for a in decided.attention] == [(reason, event["id"])]
    assert [r.reason for r in decided.refused] == [reason]
    assert (decided.payments, decided.emitted, decided.entries, decided.waiting) == ({}, [], {}, {})


@pytest.mark.parametrize("what", FORGED)
def test_what_contradicts_our_row_never_stands_in_the_way_of_the_truth(what):
    """The true events before and after it, in one batch, are folded as if it had not come."""
    true = [SALE.completed(), SALE.succeeded(), SALE.refunded(2500)]

    decided = judged(true[0], FORGED[what][0], *true[1:])

    assert decided.payments == judged(*true).payments
    assert list(decided.payments) == [SALE.payment_id]


def test_an_unpaid_session_of_another_amount_is_no_money():
    """Amounts count where money arrived."""
    decided = judged(SALE.completed(payment_status="unpaid", amount_total=1))

    assert [line.decision for line in decided.lines] == [Decision.UNCHANGED]


def test_what_waited_and_contradicts_our_row_keeps_nothing_back_that_waited_beside_it():
    """One liberator frees all that is true, whatever was refused before it."""
    forged, honest = SALE.refund(currency="jpy", refund_id="re_forged"), SALE.refund(100, refund_id="re_honest")
    early = [EventRecord(translate(bytes_of(event)), record(event)) for event in (forged, honest)]
    loaded = LoadedState(payments={SALE.payment_id: SALE.payment()}, links={}, known={}, waiting={SALE.intent_id: early})
    liberator = SALE.succeeded()

    decided = decide(loaded, [EventRecord(translate(bytes_of(liberator)), record(liberator))], at=AT)

    assert (decided.refused_waiting, decided.freed) == ({forged["id"]}, [honest["id"]])
    assert decided.payments[SALE.payment_id].refunded_minor == 100


CHARGE = "ch_3judged"


def freeing(*early):
    """Decide about a success, for whose intent, or for whose charge, these events wait."""
    waiting = {}
    for event in early:
        item = EventRecord(translate(bytes_of(event)), record(event))
        waiting.setdefault(item.event.keys[0], []).append(item)
    loaded = LoadedState(payments={SALE.payment_id: SALE.payment()}, links={}, known={}, waiting=waiting)
    liberator = SALE.succeeded()
    return decide(loaded, [EventRecord(translate(bytes_of(liberator)), record(liberator))], at=AT)


@pytest.fixture
def breaks(monkeypatch):
    """Let the fold raise on facts of a kind."""

    def broken_by(kind, error=ZeroDivisionError):
        advance = payment.advance

        def raises(known, fact, **ids):
            if isinstance(fact, kind):
                raise error
            return advance(known, fact, **ids)

        monkeypatch.setattr(payment, "advance", raises)

    return broken_by


def test_a_waiting_event_that_breaks_the_fold_leaves_nothing_of_itself_nor_of_what_it_freed(breaks):
    """It links no charge, and the dispute that only its charge frees goes on waiting, with all that it has to say."""
    dispute = SALE.dispute(payment_intent=None, charge=CHARGE)
    refund = SALE.refund(100, charge=CHARGE)
    breaks(RefundSeen)

    decided = freeing(dispute, refund)

    assert (decided.refused_waiting, decided.freed, decided.charges) == ({refund["id"]}, [], {})
    assert [payment_states.decode(one.event).data.dispute_open for one in decided.emitted] == [False]
    assert decided.payments[SALE.payment_id].disputes == {}
    assert [(line.decision, line.reason) for line in decided.lines] == [
        (Decision.QUARANTINED, "broke_the_fold:ZeroDivisionError"),
        (Decision.APPLIED, None),
    ]


def test_what_an_event_that_broke_the_fold_would_have_freed_is_freed_by_the_next(breaks):
    """The dispute waited for the charge, whoever names it."""
    dispute = SALE.dispute(payment_intent=None, charge=CHARGE)
    refund, charge = SALE.refund(100, charge=CHARGE), SALE.refunded(100, id=CHARGE)
    breaks(RefundSeen)

    decided = freeing(dispute, refund, charge)

    assert (decided.refused_waiting, decided.freed) == ({refund["id"]}, [dispute["id"], charge["id"]])
    assert decided.charges == {CHARGE: SALE.payment_id}
    assert len(decided.emitted) == 3


def test_a_waiting_event_whose_message_cannot_be_written_is_refused_alone(monkeypatch):
    """Whatever is computed of it, it blames only itself."""
    refund, write = SALE.refund(100), messages.payment_event

    def raises(name, data, **options):
        if not data.paid:
            raise OverflowError
        return write(name, data, **options)

    monkeypatch.setattr(messages, "payment_event", raises)
    decided = freeing(refund)

    assert (decided.refused_waiting, len(decided.emitted)) == ({refund["id"]}, 1)
    assert decided.payments[SALE.payment_id].refunds == {}


def test_waiting_events_are_folded_in_the_order_of_their_ids():
    """However many wait for one payment: none is blamed for the depth at which it is folded."""
    early = [SALE.refund(1, refund_id=f"re_{number}") for number in range(600)]
    decided = freeing(*early)

    assert (decided.freed, decided.refused_waiting) == (sorted(event["id"] for event in early), set())


def test_each_waiting_event_that_breaks_the_fold_is_tried_once(monkeypatch):
    """An error in our code breaks all refunds: trying those that wait takes no longer than there are."""
    tried, advance = [], payment.advance

    def raises(known, fact, **ids):
        tried.append(fact)
        if isinstance(fact, RefundSeen):
            raise ZeroDivisionError
        return advance(known, fact, **ids)

    monkeypatch.setattr(payment, "advance", raises)
    early = [SALE.refund(1, refund_id=f"re_{number}") for number in range(12)]
    decided = freeing(*early)

    assert decided.refused_waiting == {event["id"] for event in early}
    assert len(tried) == len(early) + 1


def test_memory_that_is_used_up_is_no_fault_of_a_waiting_event(breaks):
    """The batch comes again."""
    breaks(RefundSeen, MemoryError)

    with pytest.raises(MemoryError):
        freeing(SALE.refund(100))


def test_an_event_that_names_the_payment_alone_is_taken():
    """A refund may name neither intent nor charge: it has nothing to wait under, and needs nothing."""
    decided = judged(SALE.refund(100, payment_intent=None, metadata=SALE.metadata))

    assert [line.decision for line in decided.lines] == [Decision.APPLIED]
    assert decided.payments[SALE.payment_id].refunded_minor == 100


def test_an_event_twice_in_a_batch_is_told_once():
    """Whoever wrote its entry is about to publish it."""
    paid = SALE.succeeded()

    decided = judged(paid, paid)

    assert [line.decision for line in decided.lines] == [Decision.APPLIED, Decision.DUPLICATE]
    assert len(decided.emitted) == len(decided.entries) == 1


def test_an_event_that_names_nobody_leaves_a_trace():
    """Neither payment nor intent, session or charge: it can wait for nobody, and the ledger says so, once."""
    nameless = SALE.refund(payment_intent=None)

    decided = judged(nameless, nameless)

    assert [(line.decision, line.reason) for line in decided.lines] == [
        (Decision.UNHANDLED, "names no payment, nor a session, intent or charge"),
        (Decision.DUPLICATE, None),
    ]
    assert (list(decided.loose), decided.waiting, decided.refused) == ([nameless["id"]], {}, [])


@pytest.mark.parametrize("spelled", ["usd", "USD", "Usd"])
def test_a_currency_is_the_same_in_either_case(spelled):
    """Stripe writes lower case, our rows upper case."""
    event = translate(bytes_of(SALE.succeeded(currency=spelled)))

    assert event.fact == Paid(7500, spelled)
    assert mismatch(event, SALE.payment(), {}) is None


def test_a_refund_that_names_no_currency_is_taken():
    """A field that Stripe leaves out contradicts nothing."""
    event = SALE.refund()
    del event["data"]["object"]["currency"]

    assert mismatch(translate(bytes_of(event)), SALE.payment(), {}) is None


def test_a_message_tells_the_whole_state():
    """Whoever reads it knows no other: why it ended, and that the slot is free, stand in it."""
    [told] = judged(SALE.delayed("failed")).emitted

    assert payment_states.decode(told.event).data == PaymentState(
        payment_id=uuid.UUID(SALE.payment_id),
        booking_id=uuid.UUID(SALE.booking_id),
        version=1,
        status="failed",
        paid=False,
        cancel_due=False,
        amount_minor=7500,
        currency="USD",
        amount_refunded_minor=0,
        failure_reason="async_failed",
        dispute_open=False,
        closed_reason="async_failed",
        slot_free=True,
    )


def test_whatever_may_change_in_a_message_takes_a_version():
    """Readers pass over a version that they know: a field that changed without one would never reach them."""
    fixed = {"payment_id", "booking_id", "version", "amount_minor", "currency"}

    assert set(PaymentState.__struct_fields__) - fixed == set(Shown.__struct_fields__)
