"""The payments consumer's transaction on real PostgreSQL: any order, any number of copies, one ledger that explains it."""

import itertools

from msgspec.structs import fields

from consumers.payments import store
from consumers.payments.decide import decide
from consumers.payments.handlers import Payments
from shared import clock, metrics
from shared.domain.payment import Payment
from shared.kafka.records import RECONCILED
from shared.messages import CONTENT_TYPE
from tests.support.builders import Sale, insert_sales, record, stripe_event
from tests.support.database import folded, query


async def test_a_paid_event_makes_the_payment_succeeded_and_tells_it_once(payments, published, engine, sale):
    """One event, one change, one message with the whole state."""
    await payments.handle([record(sale.succeeded())])

    [event] = published.states()
    assert (event.name, event.data.status, event.data.version, event.data.paid) == ("payment.succeeded", "succeeded", 1, True)
    assert published.records[0].key == sale.payment_id.encode()
    assert (await folded(engine, sale))[0] == "succeeded"


async def test_every_order_of_a_purchase_ends_the_same(payments, engine):
    """Stripe promises no order: 24 permutations of decline, success, completion and a partial refund agree."""
    seen = set()
    for order in itertools.permutations(range(4)):
        sale = Sale()
        async with engine.begin() as tx:
            await insert_sales(tx, sale)
        events = [sale.declined(), sale.succeeded(), sale.completed(), sale.refunded(2500)]
        for position in order:
            await payments.handle([record(events[position])])
        seen.add(await folded(engine, sale))

    assert seen == {("succeeded", 2500, 2500, True, True, False, "generic_decline", None)}


async def test_an_event_is_never_processed_a_second_time_and_is_published_again_with_the_same_bytes(
    payments, published, engine, sale
):
    """Whoever took it first may have died between its commit and its publishing."""
    first = record(sale.succeeded())
    await payments.handle([first])
    await payments.handle([first])

    assert published.records[0].value == published.records[1].value
    assert (await query(engine, "select version from payments where id = $1", sale.payment_id)) == [(1,)]
    assert (await query(engine, "select decision from payment_ledger")) == [("applied",)]


async def test_a_duplicate_at_another_offset_is_told_in_the_ledger_once(payments, engine, sale):
    """Stripe knocked three times; the ledger says so in one line, and nothing happened twice."""
    event = sale.succeeded()
    await payments.handle([record(event), record(event), record(event)])

    decisions = await query(engine, "select decision from payment_ledger order by 1")
    assert decisions == [("applied",), ("duplicate",)]


async def test_an_api_version_that_we_do_not_know_is_handled_and_counted(payments, engine, sale):
    """A change in Stripe's dashboard stops no payment; the metric tells that it happened."""
    version = "2027-03-31.fennel"
    counted = metrics.stripe_event_versions.labels(version, "no")._value.get()
    applied = metrics.stripe_events.labels("applied")._value.get()
    await payments.handle([record(sale.succeeded() | {"api_version": version})])

    assert (await folded(engine, sale))[0] == "succeeded"
    assert metrics.stripe_event_versions.labels(version, "no")._value.get() == counted + 1
    assert metrics.stripe_events.labels("applied")._value.get() == applied + 1


async def test_what_an_event_causes_carries_its_trace_and_nothing_else_of_its_headers(payments, published, sale):
    """From Stripe's delivery to the last letter an operator follows one trace."""
    trace = {"correlation_id": b"evt_1", "traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"}
    await payments.handle([record(sale.succeeded(), headers=(*trace.items(), ("content-type", b"text/odd"), ("odd", b"1")))])

    [told] = published.records
    assert dict(told.headers) == trace | {"content-type": CONTENT_TYPE}


async def test_an_event_of_a_kind_that_is_not_ours_is_recorded_as_unhandled(payments, engine):
    """Nothing is dropped without a trace."""
    await payments.handle([record(stripe_event("customer.created", {"id": "cus_1", "object": "customer"}))])

    assert await query(engine, "select decision, payment_id, reason from payment_ledger") == [("unhandled", None, None)]


async def test_of_several_declines_the_newest_says_why_whatever_comes_last(payments, engine, sale):
    """By Stripe's clock, kept with the row: neither an older decline nor what tells of none takes its place."""
    newest = sale.declined("fraudulent")
    older = sale.declined("generic_decline") | {"created": newest["created"] - 60}
    for event in (newest, older, sale.dispute()):
        await payments.handle([record(event)])

    assert await query(engine, "select failure_reason from payments") == [("fraudulent",)]


async def test_the_ledger_tells_the_state_before_and_after(payments, engine, sale):
    """Why is this payment refunded? The ledger answers with event, place and both states."""
    await payments.handle([record(sale.succeeded(), partition=3, offset=41), record(sale.refunded())])

    found = await query(engine, 'select state_before, state_after, "partition", "offset" from payment_ledger order by id')
    states = [(before["status"], after["status"]) for before, after, *_ in found]
    assert states == [("pending", "succeeded"), ("succeeded", "refunded")]
    assert found[0][2:] == (3, 41)


async def test_every_cent_is_explained_by_the_ledger_alone(payments, engine, sale):
    """What each event said of money stands beside what was made of it, also where nothing was: no other table is asked."""
    too_little = sale.completed(amount_total=7499)
    refund, dispute = f"re_1{sale.tag}", f"du_3{sale.tag}00000000"
    early = sale.refund(2000, "pending", refund_id=refund)
    events = (early, too_little, sale.declined(), sale.succeeded(), sale.refunded(2000), sale.dispute("lost", amount=3000))
    await payments.handle([record(event) for event in (*events, sale.completed(payment_status="unpaid"))])

    found = await query(engine, "select event_id, decision, fact from payment_ledger order by id")
    pending = {"refund_id": refund, "status": "pending", "amount_minor": 2000, "currency": "usd"}
    declined = {"created": events[2]["created"], "reason": "generic_decline", "closes": None, "currency": "usd"}
    lost = {"dispute_id": dispute, "status": "lost", "amount_minor": 3000, "currency": "usd"}
    assert [(decision, fact) for _, decision, fact in found] == [
        ("waiting", pending),
        ("quarantined", {"amount_minor": 7499, "currency": "usd"}),
        ("unchanged", pending),
        ("applied", declined),
        ("applied", {"amount_minor": 7500, "currency": "usd"}),
        ("applied", {"amount_refunded_minor": 2000, "currency": "usd"}),
        ("unchanged", lost),
        ("unchanged", None),
    ]


async def test_a_payment_is_read_as_it_was_folded(engine):
    """All that the fold knows: what is not kept the next event would not know. Each thing of it is said here by somebody."""
    paid, expired = Sale(), Sale()
    refund = paid.refund(2500, refund_id="re_1")
    said = [paid.declined(), paid.completed(), paid.succeeded(), refund, paid.refunded(), paid.dispute(), expired.expired()]
    items = [Payments().judge(record(event)) for event in said]
    async with engine.begin() as tx:
        await insert_sales(tx, paid, expired)
        loaded = await store.load(tx, items)
        decided = decide(loaded, items, at=clock.now())
        await store.save(tx, loaded, decided)
        read = (await store.load(tx, items)).payments

    assert read == decided.payments
    defaults = {field.name: field.default for field in fields(Payment) if not field.required}
    told = {name for name, unknown in defaults.items() for known in read.values() if getattr(known, name) != unknown}
    assert told == defaults.keys()


async def test_what_was_folded_stands_in_the_row_for_everybody_who_reads_it(payments, engine, sale):
    """Each column of ours: also what this consumer derives anew and never reads back."""
    await payments.handle([record(event) for event in (sale.declined(), sale.succeeded(), sale.refunded())])

    assert await folded(engine, sale) == ("refunded", 7500, 7500, True, True, True, "generic_decline", "refunded")


async def test_two_payments_of_one_batch_keep_what_is_each_ones_own(payments, engine, sale):
    """They are written by one statement: neither gets the other's money."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await payments.handle([record(event) for event in (sale.succeeded(), other.declined(), sale.refunded(100))])

    assert (await folded(engine, sale))[:4] == ("succeeded", 100, 100, True)
    assert (await folded(engine, other))[:4] == ("failed", 0, 0, False)


async def test_what_is_known_of_a_refund_and_a_dispute_goes_on_from_batch_to_batch(payments, engine, sale):
    """A refund that came back after it had succeeded, and a dispute that was lost: each step stands in its row."""
    await payments.handle([record(sale.succeeded())])
    steps = []
    for status in ("pending", "succeeded", "failed"):
        await payments.handle([record(sale.refund(7500, status))])
        steps += await query(engine, "select status, ever_succeeded from refunds")
    for status in ("needs_response", "lost"):
        await payments.handle([record(sale.dispute(status))])
        steps += await query(engine, "select status from disputes")

    assert steps == [("pending", False), ("succeeded", True), ("failed", True), ("needs_response",), ("lost",)]
    assert (await folded(engine, sale))[:2] == ("succeeded", 0)


async def test_a_payment_is_closed_once_and_for_all(payments, engine, sale):
    """Whatever comes after its session expired: the moment from which on it blocked no other checkout stays what it was."""
    await payments.handle([record(sale.expired())])
    closed = await query(engine, "select closed_at from payments where closed_at is not null")
    for event in (sale.expired(), sale.succeeded(), sale.refunded(100), sale.refunded()):
        await payments.handle([record(event)])

        assert await query(engine, "select closed_at from payments") == closed
    assert len(closed) == 1


async def test_an_event_that_its_webhook_brought_after_all_is_none_that_reconciliation_brought(payments, sale):
    """Both brought it: nobody is called because of webhooks that do not come."""
    came, also_came = sale.succeeded(), sale.declined()
    before = metrics.stripe_events_reconciled._value.get()
    await payments.handle([record(came), record(came, headers=[RECONCILED])])
    assert metrics.stripe_events_reconciled._value.get() == before

    await payments.handle([record(also_came, headers=[RECONCILED]), record(also_came)])
    assert metrics.stripe_events_reconciled._value.get() == before + 1
