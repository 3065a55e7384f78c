"""The payments consumer's transaction on real PostgreSQL: order, duplicates, earliness, quarantine, older rows."""

import itertools
from decimal import Decimal

import pytest

from consumers.payments.handlers import Payments
from shared import metrics
from shared.db.engine import rows
from shared.kafka.batch import Batches
from shared.messages import CONTENT_TYPE, payment_states
from tests.builders import Sale, bytes_of, insert_sales, record, stripe_event
from tests.fakes import Published

FOLDED = "status::text, amount_refunded_minor, charge_refunded_minor, paid, failed, cancel_due, failure_reason, closed_reason"


class Told(Published):
    """What the payments consumer published."""

    def states(self):
        return self.events("payments.events", payment_states)


@pytest.fixture
def published():
    return Told()


@pytest.fixture
def payments(engine, published):
    return Batches(
        Payments(),
        engine=engine,
        producer=published,
        group="payments",
        target="payments.events",
        refusals="stripe.events.dlt",
    )


async def query(engine, sql, *parameters):
    async with engine.begin() as tx:
        return [tuple(row) for row in await rows(tx, sql, *parameters)]


async def folded(engine, sale):
    return (await query(engine, f"select {FOLDED} from payments where id = $1", sale.payment_id))[0]


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


@pytest.mark.parametrize("statuses", [("needs_response", "lost"), ("lost", "needs_response")])
async def test_of_a_dispute_a_person_is_told_whatever_is_heard_of_it_first(payments, engine, sale, statuses):
    """Its end may come before its beginning: then nothing that is shown changes, and the money is gone all the same."""
    await payments.handle([record(sale.succeeded())])
    for status in statuses:
        await payments.handle([record(sale.dispute(status))])

    assert await query(engine, "select reason, aggregate from attention") == [("dispute_opened", f"payment:{sale.payment_id}")]


async def test_an_event_of_a_kind_that_is_not_ours_is_recorded_as_unhandled(payments, engine):
    """Nothing is dropped without a trace."""
    await payments.handle([record(stripe_event("customer.created", {"id": "cus_1", "object": "customer"}))])

    assert await query(engine, "select decision, payment_id from payment_ledger") == [("unhandled", None)]


async def test_a_paid_row_of_the_older_application_cannot_be_demoted(payments, engine, sale):
    """Its nine columns are its facts: a late decline leaves it succeeded."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "update payments set amount_minor = null, amount = $2, status = 'succeeded' where id = $1",
            (sale.payment_id, Decimal("75.00")),
        )
    await payments.handle([record(sale.declined())])

    assert (await folded(engine, sale))[0] == "succeeded"
    assert await query(engine, "select amount_minor from payments") == [(7500,)]


async def test_an_event_that_changes_nothing_of_an_older_row_makes_it_ours_all_the_same(payments, engine, sale):
    """What its nine columns meant is written down: the columns of ours would else go on saying that nobody paid."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "update payments set amount_minor = null, status = 'succeeded', stripe_payment_intent_id = $2 where id = $1",
            (sale.payment_id, sale.intent_id),
        )
    await payments.handle([record(sale.succeeded())])

    assert await query(engine, "select amount_minor, paid, version from payments") == [(7500, True, 0)]
    assert await query(engine, "select intent_id, paid from payment_intents") == [(sale.intent_id, True)]


async def test_of_several_declines_the_newest_says_why_whatever_comes_last(payments, engine, sale):
    """By Stripe's clock, kept with the row: neither an older decline nor what tells of none takes its place."""
    newest = sale.declined("fraudulent")
    older = sale.declined("generic_decline") | {"created": newest["created"] - 60}
    for event in (newest, older, sale.dispute()):
        await payments.handle([record(event)])

    assert await query(engine, "select failure_reason from payments") == [("fraudulent",)]


async def test_an_older_row_is_found_by_its_own_intent_column(payments, engine, sale):
    """The older application wrote the intent's id, and no metadata names the payment."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "update payments set amount_minor = null, status = 'succeeded', stripe_payment_intent_id = $2 where id = $1",
            (sale.payment_id, sale.intent_id),
        )
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
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "update payments set amount_minor = null, stripe_payment_intent_id = $2 where id = $1",
            (sale.payment_id, sale.intent_id),
        )
    await payments.handle([record(sale.expired())])

    assert await query(engine, "select stripe_payment_intent_id from payments") == [(sale.intent_id,)]
    assert await query(engine, "select intent_id, paid from payment_intents") == [(sale.intent_id, False)]


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


async def test_a_payment_is_closed_once_and_for_all(payments, engine, sale):
    """Whatever comes after its session expired: the moment from which on it blocked no other checkout stays what it was."""
    await payments.handle([record(sale.expired())])
    closed = await query(engine, "select closed_at from payments where closed_at is not null")
    for event in (sale.expired(), sale.succeeded(), sale.refunded(100), sale.refunded()):
        await payments.handle([record(event)])

        assert await query(engine, "select closed_at from payments") == closed
    assert len(closed) == 1


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
