"""What the payments consumer refuses: money nobody asked for, bytes that are no event, data that PostgreSQL cannot hold."""

import pytest

from shared import metrics
from tests.support.builders import Sale, insert_sales, record, stripe_event
from tests.support.database import folded, query

STRANGER = "6f2c1d0e-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda sale: sale.succeeded(amount_received=7499), "amount_mismatch"),
        (lambda sale: sale.completed(amount_total=1), "amount_mismatch"),
        (lambda sale: sale.succeeded(currency="eur"), "currency_mismatch"),
        (lambda sale: sale.refunded(currency="jpy", metadata=sale.metadata), "currency_mismatch"),
        (lambda sale: sale.succeeded(metadata=sale.metadata | {"booking_id": STRANGER}), "booking_mismatch"),
        (lambda sale: sale.completed(id="cs_test_another"), "session_mismatch"),
    ],
)
async def test_money_that_is_not_what_was_asked_for_confirms_nobody(payments, published, engine, sale, forge, reason):
    """It changes nothing, however often it comes; a person is told, the bytes are kept, a metric counts it by its reason."""
    counted = metrics.stripe_events_quarantined.labels(reason)._value.get()
    forged = record(forge(sale))
    await payments.handle([forged])
    await payments.handle([forged])

    assert published.refusals("stripe.events.dlt") == [reason, reason]
    assert (await folded(engine, sale))[0] == "pending"
    assert await query(engine, "select decision, reason from payment_ledger") == [("quarantined", reason)]
    assert await query(engine, "select reason, aggregate from attention") == [(reason, f"payment:{sale.payment_id}")]
    for empty in ("inbox", "payment_intents", "refunds", "waiting_events"):
        assert await query(engine, f"select count(*) from {empty}") == [(0,)]
    assert metrics.stripe_events_quarantined.labels(reason)._value.get() == counted + 2


async def test_an_event_that_names_two_payments_moves_neither(payments, published, engine, sale):
    """Its metadata says one, its intent belongs to the other: nobody is confirmed by somebody else's money."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await payments.handle([record(sale.succeeded())])
    await payments.handle([record(sale.succeeded(metadata=other.metadata))])

    assert (await folded(engine, other))[0] == "pending"
    assert published.refusals("stripe.events.dlt") == ["payment_mismatch"]
    assert await query(engine, "select intent_id, payment_id::text from payment_intents") == [(sale.intent_id, sale.payment_id)]


async def test_what_waited_and_contradicts_the_row_is_kept_and_changes_nothing(payments, published, engine, sale):
    """A refund in another currency waited for its payment: refused, told, and no obstacle to whoever freed it."""
    await payments.handle([record(sale.refund(currency="jpy"))])
    await payments.handle([record(sale.succeeded())])

    assert (await folded(engine, sale))[0] == "succeeded"
    assert await query(engine, "select state from waiting_events") == [("refused",)]
    assert await query(engine, "select reason from attention") == [("currency_mismatch",)]
    assert published.refusals("stripe.events.dlt") == []


async def test_one_bad_event_never_stops_the_others(payments, published, engine, sale):
    """What is no event goes to the dead letters with its bytes; the rest of the batch goes on."""
    bad = [b"\xff\xfe", b"[]", b"", b'{"id": 1}', b'{"id":"evt_1","type":"charge.refunded","created":1,"data":{}}']
    await payments.handle([*(record(value) for value in bad), record(sale.succeeded())])

    assert [r.value for r in published.records if r.topic == "stripe.events.dlt"] == bad
    assert (await folded(engine, sale))[0] == "succeeded"


async def test_an_event_that_postgresql_refuses_is_found_by_halving(payments, published, engine, sale):
    """A NUL cannot be stored: the one culprit is refused, its 20 neighbours are applied."""
    evil = sale.declined(code="bad\x00code")
    others = [stripe_event("customer.created", {"id": f"cus_{n}", "object": "customer"}) for n in range(20)]
    await payments.handle([record(e) for e in (*others[:7], evil, *others[7:], sale.succeeded())])

    assert [reason.partition(":")[0] for reason in published.refusals("stripe.events.dlt")] == ["broke_its_batch"]
    assert (await folded(engine, sale))[0] == "succeeded"
    assert await query(engine, "select count(*) from inbox") == [(21,)]


LONG = "x" * 256
TOO_LONG = {
    "intent": lambda sale: sale.succeeded(id=LONG),
    "intent of what waits": lambda sale: sale.refunded(payment_intent=LONG),
    "session": lambda sale: sale.completed(id=LONG),
    "latest charge": lambda sale: sale.succeeded(latest_charge=LONG),
    "charge": lambda sale: sale.refund(charge=LONG, metadata=sale.metadata),
    "refund": lambda sale: sale.refund(refund_id=LONG, metadata=sale.metadata),
    "dispute": lambda sale: sale.dispute(id=LONG, metadata=sale.metadata),
}


@pytest.mark.parametrize("what", TOO_LONG)
async def test_an_id_that_no_index_holds_costs_only_its_own_event(payments, published, engine, sale, what):
    """PostgreSQL would refuse it by an error that blames no record (54000), and the partition would stand still for ever."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await payments.handle([record(TOO_LONG[what](sale)), record(other.succeeded())])

    assert [reason.partition(":")[0] for reason in published.refusals("stripe.events.dlt")] == ["wrong_shape"]
    assert (await folded(engine, other))[0] == "succeeded"


@pytest.mark.parametrize("beside", [True, False], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize("seen", [Sale.refund, Sale.dispute])
async def test_a_refund_or_dispute_of_two_payments_stays_with_the_first(payments, published, engine, sale, seen, beside):
    """Stripe moves none: the other event is a dead letter, instead of a batch that is put back for ever or a sum that lies."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await payments.handle([record(sale.succeeded()), record(other.succeeded())])
    first = seen(sale)
    second = seen(other, id=first["data"]["object"]["id"])
    for batch in ([first, second],) if beside else ([first], [second]):
        await payments.handle([record(event) for event in batch])

    assert published.refusals("stripe.events.dlt") == ["broke_its_batch:HeldElsewhere"]
    kept = await query(engine, "select payment_id::text from refunds union all select payment_id::text from disputes")
    assert kept == [(sale.payment_id,)]
    assert (await folded(engine, other))[:2] == ("succeeded", 0)
    assert await told_of(engine, second) == [("quarantined", "broke_its_batch:HeldElsewhere", other.payment_id)]


QUARANTINED = "select decision, reason, payment_id::text from payment_ledger where event_id = $1"


async def told_of(engine, event):
    """What the ledger says of an event; a person is told of the same."""
    lines = await query(engine, QUARANTINED, event["id"])
    matters = await query(engine, "select reason, aggregate from attention where cause = $1", event["id"])
    assert matters == [(reason, f"payment:{payment_id}") for _, reason, payment_id in lines]
    return lines


@pytest.mark.parametrize(
    "unfit",
    [lambda sale: sale.refund(2**63), lambda sale: sale.refund(2**63, charge=f"ch_3{sale.tag}00000000", payment_intent=None)],
    ids=["by its intent", "by its charge"],
)
async def test_an_event_that_broke_its_batch_stands_in_the_ledger_of_its_payment(payments, published, engine, sale, unfit):
    """Its dead letter is gone after a month, and with it all that was said of this money; once, however often it comes."""
    await payments.handle([record(sale.succeeded(latest_charge=f"ch_3{sale.tag}00000000"))])
    event = unfit(sale)
    for _ in range(2):
        await payments.handle([record(event)])

    [reason, again] = published.refusals("stripe.events.dlt")
    assert reason == again
    assert reason.startswith("broke_its_batch:")
    assert await told_of(engine, event) == [("quarantined", reason, sale.payment_id)]
    assert await query(engine, "select fact ->> 'amount_minor' from payment_ledger where event_id = $1", event["id"]) == [
        (str(2**63),)
    ]
    assert (await folded(engine, sale))[:2] == ("succeeded", 0)


async def test_an_event_that_broke_its_batch_and_is_nobodys_blames_no_payment(payments, published, engine, sale):
    """Its dead letter is all there is of it."""
    await payments.handle([record(stripe_event("customer.\x00", {"id": "cus_1", "object": "customer"}))])

    assert [reason.partition(":")[0] for reason in published.refusals("stripe.events.dlt")] == ["broke_its_batch"]
    for empty in ("payment_ledger", "attention"):
        assert await query(engine, f"select count(*) from {empty}") == [(0,)]
