"""Rows and sessions of the older application: what its nine columns say is never taken back, and new events find them."""

import itertools

import pytest

from tests.support.builders import Sale, insert_sales, record
from tests.support.database import folded, query

OLDER = """
update payments set amount_minor = null, amount = 75.00, status = $2::text::paymentstatus, stripe_payment_intent_id = $3
where id = $1
"""


async def written_by_the_older_application(engine, sale, *, status, intent_id):
    """Leave of the sale's payment what its nine columns say."""
    await query(engine, OLDER, sale.payment_id, status, intent_id)


async def test_a_paid_row_of_the_older_application_cannot_be_demoted(payments, engine, sale):
    """Its nine columns are its facts: a late decline leaves it succeeded."""
    await written_by_the_older_application(engine, sale, status="succeeded", intent_id=None)
    await payments.handle([record(sale.declined())])

    assert (await folded(engine, sale))[0] == "succeeded"
    assert await query(engine, "select amount_minor from payments") == [(7500,)]


async def test_an_event_that_changes_nothing_of_an_older_row_makes_it_ours_all_the_same(payments, engine, sale):
    """What its nine columns meant is written down: the columns of ours would else go on saying that nobody paid."""
    await written_by_the_older_application(engine, sale, status="succeeded", intent_id=sale.intent_id)
    await payments.handle([record(sale.succeeded())])

    assert await query(engine, "select amount_minor, paid, version from payments") == [(7500, True, 0)]
    assert await query(engine, "select intent_id, paid from payment_intents") == [(sale.intent_id, True)]


async def test_an_older_row_is_found_by_its_own_intent_column(payments, engine, sale):
    """The older application wrote the intent's id, and no metadata names the payment."""
    await written_by_the_older_application(engine, sale, status="succeeded", intent_id=sale.intent_id)
    await payments.handle([record(sale.refunded())])

    assert (await folded(engine, sale))[0] == "refunded"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_who_pays_at_a_session_that_the_older_application_opened_has_paid(payments, published, engine, sale, order):
    """Opened before the change, paid after it: the session refers to the booking, the intent to nobody; in any order."""
    await query(engine, "update payments set amount_minor = null, stripe_session_id = $1", sale.session_id)
    older = {"client_reference_id": sale.booking_id, "metadata": {"booking_id": sale.booking_id, "coach_id": sale.coach_id}}
    events = [sale.completed(**older), sale.succeeded(metadata={}), sale.refunded(2500)]
    for position in order:
        await payments.handle([record(events[position])])

    assert published.refusals("stripe.events.dlt") == []
    assert (await folded(engine, sale))[:4] == ("succeeded", 2500, 2500, True)
    assert await query(engine, "select count(*) from waiting_events") == [(0,)]


async def test_an_older_row_keeps_its_intent_when_an_event_names_none(payments, engine, sale):
    """The next event may name nothing but the intent, and whoever looks the payment up at Stripe needs it."""
    await written_by_the_older_application(engine, sale, status="pending", intent_id=sale.intent_id)
    await payments.handle([record(sale.expired())])

    assert await query(engine, "select stripe_payment_intent_id from payments") == [(sale.intent_id,)]
    assert await query(engine, "select intent_id, paid from payment_intents") == [(sale.intent_id, False)]


async def test_an_older_row_whose_amount_is_no_number_holds_up_no_other_payment(payments, published, engine, sale):
    """PostgreSQL's numeric knows NaN, too: that payment's events are dead letters, and its neighbour is paid."""
    neighbour = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, neighbour)
    await query(engine, "update payments set amount_minor = null, amount = 'NaN' where id = $1", sale.payment_id)

    await payments.handle([record(sale.succeeded()), record(neighbour.succeeded())])

    assert published.refusals("stripe.events.dlt") == ["broke_its_batch:FoldBroken"]
    assert (await folded(engine, neighbour))[0] == "succeeded"
