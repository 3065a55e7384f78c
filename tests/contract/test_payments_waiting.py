"""Events that come before their payment is known: they wait, join when it is linked, or are put back by an operator."""

from shared.db.engine import rows
from tests.support.builders import bytes_of, record
from tests.support.database import folded, query


async def test_a_refund_that_comes_first_waits_and_joins_in_the_transaction_that_links_it(payments, published, engine, sale):
    """A refund names its intent alone: it waits until an event tells whose intent that is."""
    await payments.handle([record(sale.refunded())])
    assert await query(engine, "select state from waiting_events") == [("waiting",)]
    assert await query(engine, "select count(*) from inbox") == [(0,)]

    await payments.handle([record(sale.succeeded())])

    assert await query(engine, "select count(*) from waiting_events") == [(0,)]
    assert await query(engine, "select count(*) from inbox") == [(2,)]
    assert (await folded(engine, sale))[0] == "refunded"
    # The refund is told first: whoever reads only the first message confirms nobody.
    assert [event.name for event in published.states()] == ["payment.refunded", "payment.succeeded"]
    assert [event.data.cancel_due for event in published.states()] == [True, True]


async def test_what_waited_is_published_again_by_the_event_that_freed_it(payments, published, engine, sale):
    """The freed event's message lies in the inbox row of its liberator."""
    liberator = record(sale.succeeded())
    await payments.handle([record(sale.refunded())])
    await payments.handle([liberator])
    before = [r.value for r in published.records]
    await payments.handle([liberator])

    assert [r.value for r in published.records] == before + before


async def test_the_bytes_that_wait_are_the_bytes_that_came(payments, engine, sale):
    """A waiting event is kept exactly as Stripe signed it."""
    event = sale.refund()
    await payments.handle([record(event)])

    assert await query(engine, "select body from waiting_events") == [(bytes_of(event),)]


async def test_a_waiting_event_that_is_replayed_is_folded_once_and_waits_no_more(payments, published, engine, sale):
    """An operator mended what was missing and put the event back: it joins by itself, in one line of the ledger."""
    early = record(sale.refund())
    await payments.handle([early])
    async with engine.begin() as tx:
        await rows(tx, "insert into payment_intents (intent_id, payment_id) values ($1, $2)", sale.intent_id, sale.payment_id)
    await payments.handle([record(early.value)])

    assert await query(engine, "select count(*) from waiting_events") == [(0,)]
    assert await query(engine, "select decision from payment_ledger order by id") == [("waiting",), ("applied",)]
    assert [event.name for event in published.states()] == ["payment.refunded"]


async def test_a_waiting_event_that_was_refused_and_is_replayed_after_the_repair_waits_no_more(payments, engine, sale):
    """Refused when its payment came: only being put back, once the row was mended, applies it and takes it off the list."""
    nameless = {"id": "cs_test_another", "metadata": {}, "client_reference_id": None}
    early = record(sale.completed(**nameless))
    await payments.handle([early])
    await payments.handle([record(sale.succeeded())])
    assert await query(engine, "select state from waiting_events") == [("refused",)]

    async with engine.begin() as tx:
        await rows(tx, "update payments set stripe_session_id = $1", nameless["id"])
    await payments.handle([record(sale.refunded(100))])
    assert await query(engine, "select state from waiting_events") == [("refused",)]
    await payments.handle([record(early.value)])

    assert await query(engine, "select count(*) from waiting_events") == [(0,)]
