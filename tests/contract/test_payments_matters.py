"""What of a payment is put before a person, and when nobody has to look at it any more."""

import itertools

import pytest

from tests.support.builders import record
from tests.support.database import query


@pytest.mark.parametrize("statuses", [("needs_response", "lost"), ("lost", "needs_response")])
async def test_of_a_dispute_a_person_is_told_whatever_is_heard_of_it_first(payments, engine, sale, statuses):
    """Its end may come before its beginning: then nothing that is shown changes, and the money is gone all the same."""
    await payments.handle([record(sale.succeeded())])
    for status in statuses:
        await payments.handle([record(sale.dispute(status))])

    assert await query(engine, "select reason, aggregate from attention order by reason desc") == [
        ("dispute_opened", f"payment:{sale.payment_id}"),
        ("dispute_lost", f"payment:{sale.payment_id}"),
    ]


async def test_what_a_person_has_closed_is_not_closed_again(payments, engine, sale):
    """Who looked at it stays on record, also when the charge says afterwards what they found."""
    parts = [sale.refund(5000, refund_id="re_1"), sale.refund(2500, refund_id="re_2")]
    await payments.handle([record(event) for event in (sale.succeeded(), *parts)])
    await query(engine, "update attention set resolved_at = now(), resolved_by = 'Ada'")
    await payments.handle([record(sale.refunded())])

    assert await query(engine, "select reason, resolved_by from attention") == [("refunded_in_parts_without_charge", "Ada")]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_all_given_back_in_parts_needs_a_person_only_until_the_charge_says_so(payments, engine, sale, order, at_once):
    """Whichever of the last part and its charge comes first: nothing is left to look at, and copies open nothing again."""
    events = [sale.refund(5000, refund_id="re_1"), sale.refund(2500, refund_id="re_2"), sale.refunded()]
    told = [record(events[place], offset=place + 1) for place in order]
    await payments.handle([record(sale.succeeded(), offset=0)])

    for batch in [told] if at_once else [[one] for one in told]:
        await payments.handle(batch)
        await payments.handle(batch)

    matters = await query(engine, "select reason, resolved_by, resolved_at is not null from attention")
    parts_came_first = [("refunded_in_parts_without_charge", "the payments consumer", True)]
    assert matters == (parts_came_first if order[2] == 2 else [])
