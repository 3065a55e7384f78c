"""The bookings consumer's transaction on real PostgreSQL: confirm, cancel, conflict, adopt, whatever order messages take."""

import asyncio
import itertools
import uuid
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from consumers.bookings import store
from consumers.bookings.handlers import Bookings
from shared import messages, metrics
from shared.db.engine import rows
from tests.support.builders import Sale, insert_sales, payment_event, record
from tests.support.database import query, waits_for_a_lock
from tests.support.waiting import until

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def told(published):
    """Name and reason of each message about a booking, in order."""
    return [(change.name, change.data.reason) for change in published.changes()]


def message(sale, version, *, paid=False, cancel_due=False, payment_id=None, cause=None, **changes):
    """One record of `payments.events`: the payment's whole state at a version."""
    payment_id = payment_id or sale.payment_id
    event = payment_event(
        sale,
        "payment.updated",
        cause=cause or f"evt_{uuid.uuid4().hex}",
        at=AT,
        payment_id=uuid.UUID(payment_id),
        version=version,
        status="succeeded" if paid else "pending",
        paid=paid,
        cancel_due=cancel_due,
        amount_refunded_minor=sale.amount_minor if cancel_due else 0,
    )
    return record(event, topic="payments.events", key=payment_id.encode(), **changes)


async def booking(engine, sale):
    return (await query(engine, "select status::text, payment_id::text from bookings where id = $1", sale.booking_id))[0]


async def put_into(engine, sale, status, payment_id=None):
    async with engine.begin() as tx:
        await rows(
            tx,
            "update bookings set status = $2::text::bookingstatus, payment_id = $3 where id = $1",
            sale.booking_id,
            status,
            payment_id,
        )


async def test_a_confirmed_booking_never_lacks_the_payment_that_holds_it(bookings, published, engine, sale):
    """Pending becomes confirmed, by this payment; one message tells it, keyed by the booking."""
    counted = metrics.bookings_changed.labels("booking.confirmed")._value.get()
    await bookings.handle([message(sale, 1, paid=True)])

    assert await booking(engine, sale) == ("confirmed", sale.payment_id)
    assert metrics.bookings_changed.labels("booking.confirmed")._value.get() == counted + 1
    assert told(published) == [("booking.confirmed", None)]
    [change] = published.changes()
    assert (change.data.version, change.data.status, str(change.data.payment_id)) == (1, "confirmed", sale.payment_id)
    assert (change.data.amount_minor, change.data.currency) == (sale.amount_minor, sale.currency)
    assert published.records[0].key == sale.booking_id.encode()


async def test_an_unpaid_message_is_remembered_and_changes_nothing(bookings, published, engine, sale):
    """A decline, an expiry or a dispute leaves the booking pending; its version is known all the same."""
    await bookings.handle([message(sale, 1)])

    assert await booking(engine, sale) == ("pending", None)
    assert published.records == []
    assert await query(engine, "select version, paid from booking_payments") == [(1, False)]
    assert await query(engine, "select count(*) from inbox") == [(1,)]


async def test_a_full_refund_of_the_payment_that_holds_the_booking_cancels_it(bookings, published, engine, sale):
    """Confirmed, refunded, cancelled: the version counts on."""
    await bookings.handle([message(sale, 1, paid=True), message(sale, 2, paid=True, cancel_due=True)])

    assert await booking(engine, sale) == ("cancelled", sale.payment_id)
    assert told(published) == [("booking.confirmed", None), ("booking.cancelled", "refunded")]
    assert [c.data.version for c in published.changes()] == [1, 2]


async def test_a_partial_refund_leaves_the_booking_confirmed(bookings, published, engine, sale):
    """Still paid, nothing due: nobody hears of it."""
    await bookings.handle([message(sale, 1, paid=True), message(sale, 2, paid=True)])

    assert await booking(engine, sale) == ("confirmed", sale.payment_id)
    assert told(published) == [("booking.confirmed", None)]


async def test_refunding_a_second_payment_touches_nothing(bookings, published, engine, sale):
    """The first payment holds the booking; the second one's money came by mistake and goes back."""
    second = str(uuid.uuid4())
    await bookings.handle([message(sale, 1, paid=True), message(sale, 1, paid=True, payment_id=second)])
    assert told(published)[1:] == [("booking.payment_conflict", "already_paid")]
    await bookings.handle([message(sale, 2, paid=True, cancel_due=True, payment_id=second)])

    assert await booking(engine, sale) == ("confirmed", sale.payment_id)
    assert len(published.records) == 2


async def test_a_reason_that_a_newer_release_wrote_stays_and_stops_nobody(bookings, engine, sale):
    """Beside that release, or back from it: the next message of that payment is taken, and so are its neighbours."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await put_into(engine, sale, "cancelled")
    await bookings.handle([message(sale, 1, paid=True)])
    await query(engine, "update booking_payments set conflict_reason = 'rescheduled'")

    await bookings.handle([message(sale, 2, paid=True), message(other, 1, paid=True)])

    assert await booking(engine, other) == ("confirmed", other.payment_id)
    kept = "select version, conflict_reason from booking_payments where payment_id = $1"
    assert await query(engine, kept, sale.payment_id) == [(2, "rescheduled")]


@pytest.mark.parametrize("status", ["cancelled", "completed"])
@pytest.mark.parametrize("known_before", [False, True])
async def test_money_that_comes_too_late_is_told_once(bookings, published, engine, sale, status, known_before):
    """The booking stays what it is, a person is told, and later messages of that payment say no more."""
    await put_into(engine, sale, status)
    if known_before:
        await bookings.handle([message(sale, 0)])
    await bookings.handle([message(sale, 1, paid=True)])
    await bookings.handle([message(sale, 2, paid=True), message(sale, 3, paid=True)])

    assert await booking(engine, sale) == (status, None)
    assert told(published) == [("booking.payment_conflict", status)]
    assert await query(engine, "select reason, aggregate from attention") == [
        (f"payment_conflict:{status}", f"booking:{sale.booking_id}")
    ]
    assert await query(engine, "select conflict_reason from booking_payments") == [(status,)]


@pytest.mark.parametrize(
    ("session_at", "matters"),
    [
        ("now() at time zone 'utc' - make_interval(mins => duration_minutes + 1)", 1),
        ("now() at time zone 'utc' - make_interval(mins => duration_minutes - 1)", 0),
        ("'-infinity'", 1),
        ("'infinity'", 0),
        ("'294276-12-31 23:59'", 0),
    ],
)
async def test_money_that_comes_after_the_session_confirms_and_a_person_is_told(bookings, engine, sale, session_at, matters):
    """A debit that took its two weeks, or a page left open: the money is real, and whether it goes back is for a person."""
    await query(engine, f"update bookings set session_datetime = {session_at}")
    await bookings.handle([message(sale, 1, paid=True)])
    await bookings.handle([message(sale, 2, paid=True)])

    assert await booking(engine, sale) == ("confirmed", sale.payment_id)
    assert (
        await query(engine, "select reason, aggregate, cause from attention")
        == [("paid_after_session", f"booking:{sale.booking_id}", f"payment:{sale.payment_id}")] * matters
    )


@pytest.mark.parametrize("status", ["cancelled", "completed"])
async def test_an_ended_booking_is_never_left_not_even_by_a_refund(bookings, published, engine, sale, status):
    """What took place took place."""
    await put_into(engine, sale, status, sale.payment_id)
    await bookings.handle([message(sale, 1, paid=True, cancel_due=True)])

    assert await booking(engine, sale) == (status, sale.payment_id)
    assert published.records == []


async def test_a_confirmed_booking_of_the_older_application_is_adopted(bookings, published, engine, sale):
    """It was confirmed with no payment named: the payment that turns paid takes it, and it is announced."""
    await put_into(engine, sale, "confirmed")
    await bookings.handle([message(sale, 1, paid=True)])

    assert await booking(engine, sale) == ("confirmed", sale.payment_id)
    assert told(published) == [("booking.confirmed", None)]


async def test_a_full_refund_cancels_an_older_booking_unless_another_payment_is_paid(bookings, published, engine):
    """No payment is named as the holder: the refunded one held it, if it is the only one that was paid."""
    alone, shared = Sale(), Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, alone, shared)
    for one in (alone, shared):
        await put_into(engine, one, "confirmed")
    other = str(uuid.uuid4())
    await query(
        engine,
        "insert into booking_payments (payment_id, booking_id, version, paid, cancel_due) values ($1, $2, 0, true, false)",
        other,
        shared.booking_id,
    )
    await bookings.handle([message(one, 1, paid=True, cancel_due=True) for one in (alone, shared)])

    assert (await booking(engine, alone))[0] == "cancelled"
    assert (await booking(engine, shared))[0] == "confirmed"
    assert told(published) == [("booking.cancelled", "refunded")]
    assert [change.data.confirmed_elsewhere for change in published.changes()] == [True]


@pytest.mark.parametrize(("back", "came"), [(False, ("booking.confirmed", None)), (True, ("booking.cancelled", "refunded"))])
async def test_a_card_that_was_declined_holds_no_older_booking(bookings, published, engine, sale, back, came):
    """It was never paid: who pays after it has the booking, and whose money went back had it."""
    await put_into(engine, sale, "confirmed")
    await bookings.handle([message(sale, 1, payment_id=str(uuid.uuid4()))])
    await bookings.handle([message(sale, 1, paid=True, cancel_due=back)])

    assert told(published) == [came]


async def test_every_order_of_a_payment_s_messages_ends_the_same(bookings, engine):
    """Swapped and repeated versions: pending, paid, partially refunded, fully refunded always end cancelled."""
    ends = set()
    for order in itertools.permutations(range(4)):
        sale = Sale()
        async with engine.begin() as tx:
            await insert_sales(tx, sale)
        story = [
            message(sale, 1),
            message(sale, 2, paid=True),
            message(sale, 3, paid=True),
            message(sale, 4, paid=True, cancel_due=True),
        ]
        for position in (*order, *order):
            await bookings.handle([story[position]])
        [(version, paid, due)] = await query(
            engine, "select version, paid, cancel_due from booking_payments where payment_id = $1", sale.payment_id
        )
        ends.add(((await booking(engine, sale))[0], version, paid, due))

    assert ends == {("cancelled", 4, True, True)}


async def test_a_message_that_was_overtaken_still_leads_to_the_newer_state(bookings, published, engine, sale):
    """Version 3 says paid and came first: it confirms; version 1 comes late and is nothing."""
    await bookings.handle([message(sale, 3, paid=True), message(sale, 1)])

    assert await booking(engine, sale) == ("confirmed", sale.payment_id)
    assert told(published) == [("booking.confirmed", None)]
    assert await query(engine, "select version, paid from booking_payments") == [(3, True)]


async def test_a_redelivered_message_publishes_the_same_bytes_and_changes_nothing(bookings, published, engine, sale):
    """Whoever took it first may have died between its commit and its publishing."""
    one = message(sale, 1, paid=True)
    await bookings.handle([one])
    await put_into(engine, sale, "completed", sale.payment_id)
    await bookings.handle([one, one])

    values = [r.value for r in published.records]
    assert len(values) >= 2
    assert len(set(values)) == 1
    assert await booking(engine, sale) == ("completed", sale.payment_id)
    assert await query(engine, "select version from booking_versions") == [(1,)]


async def test_an_older_message_that_is_redelivered_after_newer_ones_moves_nothing_back(bookings, published, engine, sale):
    """Its stored bytes are told again; the booking stays cancelled."""
    confirmed, cancelled = message(sale, 1, paid=True), message(sale, 2, paid=True, cancel_due=True)
    await bookings.handle([confirmed, cancelled])
    await bookings.handle([confirmed])

    assert (await booking(engine, sale))[0] == "cancelled"
    assert [c.name for c in published.changes()] == ["booking.confirmed", "booking.cancelled", "booking.confirmed"]


async def test_a_message_of_an_unknown_booking_is_a_dead_letter_and_its_replay_is_no_duplicate(
    bookings, published, engine, sale
):
    """No inbox row for what was not taken: once the booking is there, the same bytes confirm it."""
    stranger = Sale()
    early = message(stranger, 1, paid=True)
    await bookings.handle([early, message(sale, 1, paid=True)])
    assert published.refusals("payments.events.dlt") == ["no_such_booking"]
    assert (await booking(engine, sale))[0] == "confirmed"

    async with engine.begin() as tx:
        await insert_sales(tx, stranger)
    await bookings.handle([replace(early, offset=early.offset + 1000)])
    assert (await booking(engine, stranger))[0] == "confirmed"


async def matters(engine):
    """Reason, aggregate and cause of each matter, and whether it is open."""
    return await query(engine, "select reason, aggregate, cause, resolved_at is null from attention order by opened_at")


async def resolve_all(engine):
    async with engine.begin() as tx:
        await rows(tx, "update attention set resolved_at = now(), resolved_by = 'ada'")


@pytest.mark.parametrize("state", [{"paid": True}, {"paid": True, "cancel_due": True}], ids=["paid", "given back"])
async def test_money_without_its_booking_is_one_matter_however_often_it_comes(bookings, engine, sale, state):
    """Its dead letter is deleted after a month; a duplicate, a redelivery and the replay that is taken add nothing."""
    stranger = Sale()
    one = message(stranger, 1, **state)
    event_id = str(messages.payment_states.decode(one.value).id)
    told = ("booking_not_followed:no_such_booking", f"payment:{stranger.payment_id}", event_id)
    await bookings.handle([one, replace(one, offset=one.offset + 1000), message(sale, 1, paid=True)])
    await bookings.handle([one])
    assert await matters(engine) == [(*told, True)]

    async with engine.begin() as tx:
        await insert_sales(tx, stranger)
    await bookings.handle([replace(one, offset=one.offset + 2000)])
    assert (await booking(engine, stranger))[0] == ("cancelled" if "cancel_due" in state else "confirmed")
    assert await matters(engine) == [(*told, True)]


async def test_money_that_is_refused_again_after_its_matter_was_resolved_is_the_next_matter(bookings, engine):
    """The replay came too early, and the new dead letter will be deleted, too."""
    one = message(Sale(), 1, paid=True)
    await bookings.handle([one])
    await resolve_all(engine)
    await bookings.handle([replace(one, offset=one.offset + 1000)])

    assert [is_open for *_, is_open in await matters(engine)] == [False, True]


async def test_a_message_that_breaks_its_batch_is_a_matter_when_money_moved(bookings, engine, sale):
    """Found by halving, and again when the batch comes again; its neighbours open none."""
    broken, unpaid = Sale(), Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, broken, unpaid)
    batch = [message(broken, 2**63, paid=True), message(unpaid, 2**63), message(sale, 1, paid=True)]
    await bookings.handle(batch)
    await bookings.handle(batch)

    [(reason, aggregate, cause, is_open)] = await matters(engine)
    assert reason.startswith("booking_not_followed:broke_its_batch:")
    assert (aggregate, is_open) == (f"payment:{broken.payment_id}", True)
    assert cause == str(messages.payment_states.decode(batch[0].value).id)


async def test_a_matter_is_opened_with_its_batch_or_not_at_all(bookings, published, engine, sale, monkeypatch):
    """A crash before the commit leaves neither a matter nor a confirmed booking; the same batch then brings both."""
    batch = [message(Sale(), 1, paid=True), message(sale, 1, paid=True)]

    async def dies(*_arguments):
        raise ConnectionError

    with monkeypatch.context() as dying:
        dying.setattr(store.inbox, "write", dies)
        with pytest.raises(ConnectionError):
            await bookings.handle(batch)
    assert (await matters(engine), (await booking(engine, sale))[0]) == ([], "pending")
    assert published.records == []

    await bookings.handle(batch)
    assert (len(await matters(engine)), (await booking(engine, sale))[0]) == (1, "confirmed")


async def test_a_refused_message_of_a_payment_that_is_not_paid_opens_no_matter(bookings, published, engine):
    """Nothing depends on it: its booking stays as it is."""
    await bookings.handle([message(Sale(), 1)])

    assert published.refusals("payments.events.dlt") == ["no_such_booking"]
    assert await matters(engine) == []


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"\xff", b'{"id":1}', b"{"])
async def test_bytes_that_are_no_message_are_refused_alone(bookings, published, engine, sale, value):
    """To the dead letters with the reason; the rest of the batch goes on."""
    await bookings.handle([record(value, topic="payments.events"), message(sale, 1, paid=True)])

    assert len(published.refusals("payments.events.dlt")) == 1
    assert published.refusals("payments.events.dlt")[0].partition(":")[0] in {"not_json", "wrong_shape"}
    assert (await booking(engine, sale))[0] == "confirmed"


async def test_a_version_that_no_column_holds_costs_only_its_own_message(bookings, published, engine, sale):
    """What PostgreSQL cannot store is found by halving."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await bookings.handle([message(other, 2**63, paid=True), message(sale, 1, paid=True)])

    assert published.refusals("payments.events.dlt")[0].startswith("broke_its_batch:")
    assert (await booking(engine, sale))[0] == "confirmed"
    assert (await booking(engine, other))[0] == "pending"


async def test_a_status_that_we_do_not_know_costs_only_the_messages_of_its_bookings(bookings, published, engine, sale):
    """The booking service added a label: everybody else is confirmed, and the dead letter is replayed once we know it, too."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    async with engine.begin() as tx:
        await rows(tx, "alter type bookingstatus add value 'no_show'")
    await put_into(engine, other, "no_show")
    await bookings.handle([message(other, 1, paid=True), message(sale, 1, paid=True)])

    assert published.refusals("payments.events.dlt") == ["broke_its_batch:FoldBroken"]
    assert (await booking(engine, sale))[0] == "confirmed"
    assert await query(engine, "select count(*) from inbox") == [(1,)]


async def test_a_time_without_a_zone_costs_only_its_own_message(bookings, published, engine, sale):
    """A foreign writer's mistake: RFC 3339 wants an offset."""
    one = message(sale, 1, paid=True)
    naive = replace(one, value=one.value.replace(b'12:00:00Z"', b'12:00:00"'), offset=one.offset + 1000)
    assert naive.value != one.value
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other)
    await bookings.handle([naive, message(other, 1, paid=True)])

    assert [reason.partition(":")[0] for reason in published.refusals("payments.events.dlt")] == ["wrong_shape"]
    assert (await booking(engine, other))[0] == "confirmed"


async def test_unknown_fields_and_types_are_no_obstacle(bookings, engine, sale):
    """A newer writer does not stop this reader, which decides from the state alone."""
    one = message(sale, 1, paid=True)
    newer = one.value.replace(b'"data":{', b'"data":{"tomorrow":[1],').replace(b"payment.updated", b"payment.reborn")
    await bookings.handle([replace(one, value=newer)])

    assert (await booking(engine, sale))[0] == "confirmed"


async def test_two_payments_in_one_batch_give_one_confirmation_and_one_conflict(bookings, published, engine, sale):
    """The first of them holds the booking; versions of the booking count without a gap."""
    second = str(uuid.uuid4())
    await bookings.handle([message(sale, 1, paid=True, payment_id=second), message(sale, 1, paid=True)])

    assert await booking(engine, sale) == ("confirmed", second)
    assert told(published) == [("booking.confirmed", None), ("booking.payment_conflict", "already_paid")]
    assert [c.data.version for c in published.changes()] == [1, 2]


async def test_what_is_announced_names_ids_and_amounts_and_nobody(bookings, published, engine, sale):
    """Names and addresses stay in the database."""
    await bookings.handle([message(sale, 1, paid=True)])

    told = published.records[0].value.decode()
    for private in ("Ada", "Lovelace", "Grace", "Hopper", "example.com"):
        assert private not in told
    assert dict(published.records[0].headers)["content-type"] == messages.CONTENT_TYPE


async def test_consumers_that_hold_two_payments_of_one_booking_take_turns(bookings, published, engine, sale):
    """Payments are spread over partitions by their own ids: only their booking's lock keeps them apart."""
    async with engine.begin() as tx:
        await store.load(tx, [Bookings().judge(message(sale, 1))])
        second = asyncio.create_task(bookings.handle([message(sale, 1, paid=True)]))
        await until(waits_for_a_lock(engine), "the second waits for the first", deadline_seconds=10)
        assert published.records == []
    await second
    assert told(published) == [("booking.confirmed", None)]
