"""Whose payment an event is about: what it names, what was linked before, and what waits until somebody links it."""

import asyncio
import uuid

import pytest
from prometheus_client import REGISTRY

from consumers.payments import store
from consumers.payments.handlers import Payments
from consumers.payments.translate import Refusal, translate
from shared.db.engine import rows
from shared.messages import payment_states
from tests.support.builders import Sale, insert_sales, record
from tests.support.database import query
from tests.support.waiting import until


async def sales(engine, count):
    made = [Sale() for _ in range(count)]
    async with engine.begin() as tx:
        await insert_sales(tx, *made)
    return made


async def refunded(engine):
    """The payments that gave money back, with how much."""
    found = await query(engine, "select id::text, amount_refunded_minor from payments where amount_refunded_minor > 0")
    return dict(found)


def charge_of(sale):
    return f"ch_3{sale.tag}00000000"


async def judged(engine):
    """The payment under which the last event was judged, and the judgement."""
    return (await query(engine, "select payment_id::text, decision, reason from payment_ledger order by id desc limit 1"))[0]


async def test_an_event_of_a_new_payment_holds_two_advisory_locks_at_most(engine):
    """README.md says by it for how many processes PostgreSQL's table of locks is large enough."""
    sold = await sales(engine, 3)
    said = [*(one.completed() for one in sold), *(one.refunded(100, payment_intent=f"pi_{one.tag}") for one in sold)]
    async with engine.begin() as tx:
        await store.load(tx, [Payments().judge(record(event)) for event in said])

        assert await rows(tx, "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == [(12,)]


async def test_the_metadata_outranks_every_other_name(payments, engine):
    """The intent is another payment's: it is told of the payment that checkout's metadata names, and changes neither."""
    one, other = await sales(engine, 2)
    await payments.handle([record(other.succeeded())])
    await payments.handle([record(one.refunded(100, payment_intent=other.intent_id, metadata=one.metadata))])

    assert await judged(engine) == (one.payment_id, "quarantined", "payment_mismatch")
    assert await refunded(engine) == {}


async def test_the_session_outranks_the_intent(payments, engine):
    """Without metadata, the session that checkout stored says more than an intent that another payment claimed."""
    one, other = await sales(engine, 2)
    await payments.handle([record(other.succeeded())])
    await payments.handle([record(one.completed(payment_intent=other.intent_id, metadata={}, client_reference_id=None))])

    assert await judged(engine) == (one.payment_id, "quarantined", "payment_mismatch")
    assert await query(engine, "select id::text from payments where paid") == [(other.payment_id,)]


async def test_metadata_that_names_nobody_hides_no_session(payments, engine, sale):
    """The session is ours, the payment in its metadata unknown: a contradiction, not something to wait for."""
    await payments.handle([record(sale.completed(metadata={"payment_id": str(uuid.uuid4())}))])

    assert await judged(engine) == (sale.payment_id, "quarantined", "payment_mismatch")
    assert await query(engine, "select count(*) from waiting_events") == [(0,)]


async def test_a_session_whose_checkout_died_is_learned_from_its_event(payments, engine, sale):
    """The row was there before Stripe made the session, and never heard of it: what names the session alone is found later."""
    await query(engine, "update payments set stripe_session_id = null, stripe_payment_intent_id = null returning 1")
    await payments.handle([record(sale.completed())])

    ids = await query(engine, "select stripe_session_id, stripe_payment_intent_id from payments")
    assert ids == [(sale.session_id, sale.intent_id)]
    await payments.handle([record(sale.expired(metadata={}, client_reference_id=None, payment_intent=None))])
    assert (await judged(engine))[0] == sale.payment_id


async def test_the_intent_that_paid_is_shown_whatever_is_declined_after_it(payments, engine, sale):
    """An intent that was declined may pay later; a smaller one that is declined then is not what was paid."""
    await payments.handle([record(sale.declined())])
    await payments.handle([record(sale.succeeded())])
    await payments.handle([record(sale.declined(id="pi_1", latest_charge=None))])

    assert await query(engine, "select intent_id, paid from payment_intents order by 1") == [
        ("pi_1", False),
        (sale.intent_id, True),
    ]
    assert await query(engine, "select stripe_payment_intent_id from payments") == [(sale.intent_id,)]


async def test_the_intent_outranks_the_charge(payments, engine):
    """A refund names both, of two payments: it is told of the intent's and changes neither."""
    one, other = await sales(engine, 2)
    await payments.handle([record(one.succeeded()), record(other.succeeded(latest_charge=charge_of(other)))])
    await payments.handle([record(one.refund(100, charge=charge_of(other)))])

    assert await judged(engine) == (one.payment_id, "quarantined", "payment_mismatch")
    assert await refunded(engine) == {}


@pytest.mark.parametrize("made", [Sale.refund, Sale.dispute], ids=["refund", "dispute"])
@pytest.mark.parametrize("link", ["intent", "charge"])
async def test_what_names_its_charge_alone_is_found_by_whoever_linked_the_charge(payments, engine, sale, made, link):
    """Stripe may leave `payment_intent` null on a refund and on a dispute."""
    links = {
        "intent": sale.succeeded(latest_charge=charge_of(sale)),
        "charge": sale.refunded(0, metadata=sale.metadata),
    }
    await payments.handle([record(links[link])])
    await payments.handle([record(made(sale, payment_intent=None, charge=charge_of(sale)))])

    decided = await query(engine, "select decision from payment_ledger where payment_id = $1 order by id", sale.payment_id)
    assert decided[-1] == ("applied",)
    assert await query(engine, "select count(*) from waiting_events") == [(0,)]


async def test_what_names_its_charge_alone_waits_for_whoever_links_the_charge(payments, published, engine, sale):
    """It joins in the very transaction that links it, also when that link takes two steps: intent, refund, charge."""
    early = record(sale.dispute(payment_intent=None, charge=charge_of(sale)))
    await payments.handle([early])
    await payments.handle([record(sale.succeeded())])
    assert await query(engine, "select object_key, state from waiting_events") == [(charge_of(sale), "waiting")]

    await payments.handle([record(sale.refund(100, charge=charge_of(sale)))])

    assert await query(engine, "select count(*) from waiting_events") == [(0,)]
    assert {e.name for e in published.events("payments.events", payment_states)} == {
        "payment.succeeded",
        "payment.partially_refunded",
        "payment.disputed",
    }


async def test_whoever_links_what_another_links_waits_for_it_whatever_else_is_linked(payments, engine):
    """Two that find an intent and a charge unknown must not both go on; that others are known has nothing to do with it."""
    known, new = await sales(engine, 2)
    await payments.handle([record(known.succeeded(latest_charge=charge_of(known)))])
    refund = Payments().judge(record(new.refund(100, charge=charge_of(new))))

    async with engine.begin() as holder, engine.begin() as tx:
        await store.load(holder, [refund])
        asking = asyncio.create_task(store.load(tx, [refund]))
        await until(waits_for_a_key(engine), "the second waits", deadline_seconds=5)
        await holder.rollback()
        await asking


def waits_for_a_key(engine):
    async def waits():
        asked = "select 1 from pg_locks l join pg_database d on d.oid = l.database and datname = current_database() "
        return bool(await query(engine, asked + "where locktype = 'advisory' and not granted"))

    return waits


async def test_each_freed_event_is_told_under_an_id_of_its_own(payments, published, engine, sale):
    """Its own id is the cause, not its liberator's: two refunds that one success frees are two events to every reader."""
    early = [record(sale.refund(n, refund_id=f"re_{n}")) for n in (100, 200)]
    await payments.handle(early)
    await payments.handle([record(sale.succeeded())])

    told = published.events("payments.events", payment_states)
    assert len({event.id for event in told}) == len(told) == 3
    assert sorted(event.data.version for event in told) == [1, 2, 3]


def told_of(reason):
    """How many matters of a kind were put before an operator by this process."""
    return REGISTRY.get_sample_value("operator_attention_total", {"reason": reason.partition(":")[0]}) or 0


UNFIT = {
    "a character that no text column holds": lambda sale: sale.refund(100, refund_id="re_\x00"),
    "a number that no column holds": lambda sale: sale.refund(2**63, refund_id="re_huge"),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
async def test_a_freed_event_that_postgresql_cannot_hold_never_blames_its_liberator(payments, published, engine, sale, unfit):
    """It stays, refused, with its bytes; who freed it and what waited beside it are folded, and a person is told."""
    forged, honest = unfit(sale), sale.refund(100, refund_id="re_honest")
    told_before = told_of("broke_its_batch")
    await payments.handle([record(forged), record(honest)])
    assert await query(engine, "select count(*) from waiting_events") == [(2,)]

    await payments.handle([record(sale.succeeded()), record(sale.completed())])

    assert published.refusals("stripe.events.dlt") == []
    assert await query(engine, "select event_id, state from waiting_events") == [(forged["id"], "refused")]
    assert await query(engine, "select status::text, amount_refunded_minor from payments") == [("succeeded", 100)]
    [(reason, aggregate)] = await query(engine, "select reason, aggregate from attention")
    assert (reason.startswith("broke_its_batch:"), aggregate) == (True, f"payment:{sale.payment_id}")
    assert told_of(reason) == told_before + 1, "what was only tried called for nobody"
    quarantined = "select event_id from payment_ledger where decision = 'quarantined'"
    assert await query(engine, quarantined) == [(forged["id"],)]
    assert await query(engine, "select count(*) from inbox where event_id = $1", forged["id"]) == [(0,)]


async def test_what_waited_is_not_blamed_for_what_only_it_frees(payments, published, engine, sale):
    """A success frees a refund, whose charge frees a dispute that PostgreSQL cannot hold: the money went back all the same."""
    forged = sale.dispute(id="du_\x00", payment_intent=None, charge=charge_of(sale))
    honest = sale.refund(100, charge=charge_of(sale))
    assert forged["id"] < honest["id"], "it is tried first, while nobody has freed it yet"
    await payments.handle([record(forged), record(honest)])
    await payments.handle([record(sale.succeeded())])

    assert published.refusals("stripe.events.dlt") == []
    assert await query(engine, "select event_id, state from waiting_events") == [(forged["id"], "refused")]
    assert await query(engine, "select status::text, amount_refunded_minor from payments") == [("succeeded", 100)]


async def test_what_one_that_is_refused_would_have_freed_is_freed_by_another(payments, published, engine, sale):
    """A refund that PostgreSQL cannot hold, and the charge's own event, both name the charge for which a dispute waits."""
    dispute = sale.dispute(payment_intent=None, charge=charge_of(sale))
    forged = sale.refund(100, refund_id="re_\x00", charge=charge_of(sale))
    honest = sale.refunded(100, id=charge_of(sale))
    await payments.handle([record(dispute), record(forged), record(honest)])
    await payments.handle([record(sale.succeeded())])

    assert published.refusals("stripe.events.dlt") == []
    assert await query(engine, "select event_id, state from waiting_events") == [(forged["id"], "refused")]
    assert await query(engine, "select amount_refunded_minor, (select count(*) from disputes) from payments") == [(100, 1)]
    assert await query(engine, "select count(*) from inbox") == [(3,)]


async def test_a_liberator_that_is_itself_at_fault_frees_nobody(payments, published, engine, sale):
    """Its dead letter is its own; what waited goes on waiting."""
    await payments.handle([record(sale.refund(100))])
    await payments.handle([record(sale.declined(code="bad\x00code"))])

    assert len(published.refusals("stripe.events.dlt")) == 1
    assert await query(engine, "select state from waiting_events") == [("waiting",)]


async def test_a_connection_that_breaks_while_events_are_freed_blames_none_of_them(
    payments, published, engine, sale, monkeypatch
):
    """That is the world's fault: the batch comes again, and what waited is folded then."""
    await payments.handle([record(sale.refund(100))])
    liberator, save = record(sale.succeeded()), store.save

    async def broken_once(*_arguments):
        monkeypatch.setattr(store, "save", save)
        raise ConnectionResetError

    monkeypatch.setattr(store, "save", broken_once)
    with pytest.raises(ConnectionResetError):
        await payments.handle([liberator])
    assert await query(engine, "select state from waiting_events") == [("waiting",)]

    await payments.handle([liberator])
    assert published.refusals("stripe.events.dlt") == []
    assert await query(engine, "select status::text, amount_refunded_minor from payments") == [("succeeded", 100)]


async def test_a_freed_event_that_contradicts_its_payment_stays_and_its_liberator_goes_on(payments, published, engine, sale):
    """It is another session than ours: quarantined where it waits, once, however often others come."""
    early = sale.completed(metadata={}, client_reference_id=None, id="cs_foreign")
    await payments.handle([record(early)])
    for liberator in (sale.succeeded(), sale.refunded(100)):
        await payments.handle([record(liberator)])

    assert published.refusals("stripe.events.dlt") == []
    assert await query(engine, "select event_id, state from waiting_events") == [(early["id"], "refused")]
    assert await query(engine, "select reason from attention") == [("session_mismatch",)]
    assert await query(engine, "select status::text, amount_refunded_minor from payments") == [("succeeded", 100)]


async def test_what_waited_and_is_no_event_by_newer_rules_stops_nobody(payments, published, engine, sale, monkeypatch):
    """A deployment may refuse what an older one let wait: it stays, refused, and a person is told."""
    early = sale.refund(100)
    await payments.handle([record(early)])
    stricter = lambda body: Refusal("wrong_shape:new") if b'"refund.created"' in body else translate(body)  # noqa: E731
    monkeypatch.setattr(store, "translate", stricter)
    await payments.handle([record(sale.succeeded())])

    assert [event.name for event in published.events("payments.events", payment_states)] == ["payment.succeeded"]
    assert await query(engine, "select event_id, state from waiting_events") == [(early["id"], "refused")]
    assert await query(engine, "select reason from attention") == [("wrong_shape:new",)]
