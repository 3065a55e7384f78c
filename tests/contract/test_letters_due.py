"""Who is told of a cancellation, of a refund in part and of a payment that failed late; in any order, once, or not at all."""

import asyncio
import uuid

import pytest

from consumers.email import store
from consumers.email.store import ClaimWrite
from shared.db.engine import rows
from tests.support.builders import Sale, booking_event, insert_sales, payment_event, record
from tests.support.database import query
from tests.support.waiting import until

ROLES = ("client", "coach")
CONFIRMED, CANCELLED = "booking.confirmed", "booking.cancelled"


@pytest.fixture
async def sale(engine):
    one = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, one, booking_status="confirmed")
        await rows(tx, "update bookings set payment_id = $1", one.payment_id)
        await rows(tx, "update payments set paid = true, status = 'succeeded'")
        await rows(tx, "insert into booking_payments values ($1, $2, 1, true, false)", one.payment_id, one.booking_id)
    return one


async def letters(engine, kind):
    return await query(engine, "select role, state, reason from letters where kind = $1 order by role, cause", kind)


def booking(sale, name, **changes):
    reason = "refunded" if name == CANCELLED else None
    value = booking_event(sale, name, **{"reason": reason, **changes})
    return record(value, topic="bookings.events", key=sale.booking_id.encode())


def payment(sale, **changes):
    # The type is for people: whoever decides by it would be caught here.
    value = payment_event(sale, "payment.updated", **changes)
    return record(value, topic="payments.events", key=sale.payment_id.encode())


async def refunded(engine, minor):
    await query(engine, "update payments set amount_refunded_minor = $1", minor)


def failed(sale, **changes):
    return payment(sale, **{"status": "failed", "paid": False, "closed_reason": "async_failed", **changes})


async def unpaid(engine):
    await query(engine, "update payments set paid = false, status = 'failed'")
    await query(engine, "update bookings set status = 'pending', payment_id = null")


def told(mailbox):
    return sorted((letter.to[0].partition("-")[0], letter.subject) for letter in mailbox.letters)


CONFIRMATIONS = [
    ("client", "Booking Confirmed: Session with Grace Hopper"),
    ("coach", "New Booking: Session with Ada Lovelace"),
]
CANCELLATIONS = [
    ("client", "Booking Cancelled: Session with Grace Hopper"),
    ("coach", "Booking Cancelled: Session with Ada Lovelace"),
]


async def test_a_cancelled_booking_tells_both_who_were_confirmed_once(email, mailbox, engine, sale):
    """The letter names the refund, and a repetition, later or under another version, says nothing again."""
    await refunded(engine, 7500)
    await email.changes.handle([booking(sale, CONFIRMED)])
    await query(engine, "update bookings set status = 'cancelled'")
    for _ in range(2):
        await email.changes.handle([booking(sale, CANCELLED), booking(sale, CANCELLED, version=7)])
    await email.changes.handle([booking(sale, CONFIRMED)])

    assert told(mailbox) == sorted(CONFIRMATIONS + CANCELLATIONS)
    client = next(one for one in mailbox.letters if one.subject == CANCELLATIONS[0][1])
    assert "We have refunded $75.00 to you." in client.text
    assert [a.content_type for a in client.attachments] == ["text/calendar"]


async def test_a_cancellation_without_a_refund_names_none(email, mailbox, engine, sale):
    """Whatever cancelled it, nobody is promised money that nobody gave."""
    await email.changes.handle([booking(sale, CONFIRMED)])
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CANCELLED, reason=None)])

    assert len(mailbox.letters) == 4
    assert all("refund" not in letter.text.lower() for letter in mailbox.letters)


async def test_a_cancellation_is_silent_about_a_refund_that_failed_by_now(email, mailbox, engine, sale):
    """The money came back to us while the letters waited: the session is off all the same, and nobody is promised money."""
    await email.changes.handle([booking(sale, CONFIRMED)])
    await query(engine, "update bookings set status = 'cancelled'")
    await refunded(engine, 0)
    await email.changes.handle([booking(sale, CANCELLED)])

    assert told(mailbox) == sorted(CONFIRMATIONS + CANCELLATIONS)
    assert all("refund" not in letter.text.lower() and "$75.00" not in letter.text for letter in mailbox.letters[2:])


@pytest.mark.parametrize("one_batch", [True, False])
@pytest.mark.parametrize("order", [(CONFIRMED, CANCELLED), (CANCELLED, CONFIRMED)])
async def test_a_booking_cancelled_before_it_was_confirmed_tells_nobody(email, mailbox, engine, sale, order, one_batch):
    """In either order, in one batch or two: no confirmation, so no cancellation either; the ledger says why."""
    await query(engine, "update bookings set status = 'cancelled'")
    batches = [[booking(sale, name) for name in order]] if one_batch else [[booking(sale, name)] for name in order]
    for batch in batches:
        await email.changes.handle(batch)

    assert mailbox.letters == []
    assert await letters(engine, "cancellation") == [
        ("client", "suppressed", "confirmation_not_sent"),
        ("coach", "suppressed", "confirmation_not_sent"),
    ]


async def test_who_was_not_confirmed_is_not_told_of_the_cancellation(email, mailbox, engine, sale):
    """The client's confirmation died; the coach's went out."""
    await query(engine, "update users set email = '' where id = $1", sale.client_id)
    await email.changes.handle([booking(sale, CONFIRMED)])
    await query(engine, "update users set email = 'ada@example.com' where id = $1", sale.client_id)
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CANCELLED)])

    assert told(mailbox) == sorted([CONFIRMATIONS[1], CANCELLATIONS[1]])
    assert await letters(engine, "cancellation") == [
        ("client", "suppressed", "confirmation_not_sent"),
        ("coach", "sent", None),
    ]


async def confirmation_under_lease(engine, sale, *, lease, handed_over=True, maybe_sent=False):
    """The client's confirmation in somebody's hands."""
    async with engine.begin() as tx:
        found = await rows(tx, "select id from letters where kind = 'confirmation' and role = 'client'")
        token = uuid.uuid4()
        await store.claim(tx, [ClaimWrite(found[0][0], token, 0, maybe_sent=maybe_sent)])
        if handed_over:
            await store.hand_over(tx, [(found[0][0], token)])
        await rows(tx, "update letters set lease_until = now() + $1::text::interval where id = $2", lease, found[0][0])
    return found[0][0]


async def test_a_cancellation_follows_the_confirmation_of_its_own_booking(email, mailbox, engine, sale):
    """Another booking's letters say nothing of it: one was confirmed and is called off, one was never confirmed."""
    other = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, other, booking_status="cancelled")
        await rows(tx, "update payments set paid = true, status = 'succeeded'")
        await rows(tx, "update bookings set payment_id = $2 where id = $1", other.booking_id, other.payment_id)
    await email.changes.handle([booking(sale, CONFIRMED)])
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(other, CANCELLED), booking(sale, CANCELLED, version=2)])

    told = await query(engine, "select booking_id::text, state from letters where kind = 'cancellation' order by state")
    assert told == [(sale.booking_id, "sent")] * 2 + [(other.booking_id, "suppressed")] * 2
    assert len(mailbox.letters) == 4


async def test_a_cancellation_waits_for_a_confirmation_in_flight(email, mailbox, engine, sale):
    """It is looked at again in the 1 s step, and sent once the confirmation is."""
    await email.changes._batches.handle([booking(sale, CONFIRMED)])
    letter_id = await confirmation_under_lease(engine, sale, lease="20 s")
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CANCELLED)])
    assert mailbox.letters == []
    [later] = email.published.incoming("email.retry.1s")

    await query(engine, "update letters set state = 'sent', lease_until = null where id = $1", letter_id)
    await email.retries.handle([later])

    assert told(mailbox) == [CANCELLATIONS[0]]


async def test_a_confirmation_that_may_have_gone_out_is_cancelled_and_never_sent_again(email, mailbox, engine, sale):
    """Its sender died after DATA began: a cancellation of what never came is better than silence about what did."""
    await email.changes._batches.handle([booking(sale, CONFIRMED)])
    await confirmation_under_lease(engine, sale, lease="-1 s")
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CONFIRMED)])
    await email.changes.handle([booking(sale, CANCELLED)])

    assert told(mailbox) == [CANCELLATIONS[0]]
    assert await letters(engine, "confirmation") == [
        ("client", "suppressed", "cancelled_perhaps_sent"),
        ("coach", "suppressed", "cancelled_before_sent"),
    ]


async def test_a_confirmation_whose_sender_died_before_data_is_taken_back_in_silence(email, mailbox, engine, sale):
    """Nothing of it left the house: there is nothing to cancel."""
    await email.changes._batches.handle([booking(sale, CONFIRMED)])
    await confirmation_under_lease(engine, sale, lease="-1 s", handed_over=False)
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CONFIRMED)])
    await email.changes.handle([booking(sale, CANCELLED)])

    assert told(mailbox) == []
    assert await letters(engine, "cancellation") == [
        ("client", "suppressed", "confirmation_not_sent"),
        ("coach", "suppressed", "confirmation_not_sent"),
    ]


@pytest.mark.parametrize("lease", ["20 s", "-1 s"])
async def test_a_confirmation_that_waits_for_a_connection_is_taken_back(email, mailbox, engine, sale, lease):
    """DATA has not begun, and its sender asks before it begins: neither letter goes out, and nothing waits for a lease."""
    await email.changes._batches.handle([booking(sale, CONFIRMED)])
    await confirmation_under_lease(engine, sale, lease=lease, handed_over=False)
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CANCELLED)])
    await email.changes.handle([booking(sale, CONFIRMED)])

    assert (mailbox.letters, email.published.records) == ([], [])
    assert await letters(engine, "confirmation") == [(role, "suppressed", "cancelled_before_sent") for role in ROLES]
    assert await letters(engine, "cancellation") == [(role, "suppressed", "confirmation_not_sent") for role in ROLES]


async def test_a_sender_whose_confirmation_was_taken_back_sends_nothing(email, mailbox, engine, sale):
    """It had claimed both and waited for a connection; their tickets find them suppressed."""
    email.sender._conversations = asyncio.Semaphore(0)
    handling = asyncio.create_task(email.changes.handle([booking(sale, CONFIRMED)]))

    async def claimed():
        return await query(engine, "select distinct state from letters") == [("sending",)]

    await until(claimed, "both letters are claimed")
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes._batches.handle([booking(sale, CANCELLED)])
    for _ in ROLES:
        email.sender._conversations.release()
    await handling
    await email.retries.handle(email.published.incoming("email.retry.1s"))
    await email.changes.handle([booking(sale, CANCELLED)])

    assert mailbox.letters == []
    assert await letters(engine, "confirmation") == [(role, "suppressed", "cancelled_before_sent") for role in ROLES]
    assert await letters(engine, "cancellation") == [(role, "suppressed", "confirmation_not_sent") for role in ROLES]


async def test_a_confirmation_taken_back_after_a_claim_of_which_there_is_no_record_is_cancelled(email, mailbox, engine, sale):
    """An earlier sender may have handed it over: better a cancellation than silence."""
    await email.changes._batches.handle([booking(sale, CONFIRMED)])
    await confirmation_under_lease(engine, sale, lease="-1 s")
    await confirmation_under_lease(engine, sale, lease="20 s", handed_over=False, maybe_sent=True)
    await query(engine, "update bookings set status = 'cancelled'")
    await email.changes.handle([booking(sale, CANCELLED)])

    assert told(mailbox) == [CANCELLATIONS[0]]
    assert ("client", "suppressed", "cancelled_perhaps_sent") in await letters(engine, "confirmation")


async def test_a_part_that_went_back_tells_the_client_once(email, mailbox, engine, sale):
    """With both amounts; every later change of the payment, and each repetition, is no news."""
    await refunded(engine, 2000)
    partial = payment(sale, version=2, amount_refunded_minor=2000)
    disputed = payment(sale, version=3, amount_refunded_minor=2000, dispute_open=True)
    await email.payments.handle([partial, disputed])
    await email.payments.handle([partial])

    assert told(mailbox) == [("client", "Refund: $20.00 for your session with Grace Hopper")]
    [letter] = mailbox.letters
    assert "Refunded in all: $20.00" in letter.text
    assert "You had paid:    $75.00" in letter.text
    assert "Nothing else about your booking changes." in letter.text
    assert letter.attachments == []


async def test_each_further_part_is_told_in_all(email, mailbox, engine, sale):
    """A second part makes a second letter, with the sum."""
    for minor in (2000, 5000):
        await refunded(engine, minor)
        await email.payments.handle([payment(sale, amount_refunded_minor=minor)])

    assert [letter.subject.partition(" for")[0] for letter in mailbox.letters] == ["Refund: $20.00", "Refund: $50.00"]


@pytest.mark.parametrize("order", [(2000, 5000), (5000, 2000)])
async def test_late_and_swapped_parts_tell_only_what_is_true(email, mailbox, engine, sale, order):
    """Both messages come after the payment moved on: one letter, with what went back by now."""
    await refunded(engine, 5000)
    for minor in order:
        await email.payments.handle([payment(sale, amount_refunded_minor=minor)])

    assert [letter.subject.partition(" for")[0] for letter in mailbox.letters] == ["Refund: $50.00"]
    assert ("client", "suppressed", "superseded") in await letters(engine, "refund")


@pytest.mark.parametrize(("minor", "paid"), [(7500, True), (9000, True), (0, True), (2000, False)])
async def test_all_in_parts_nothing_or_nothing_paid_makes_no_refund_letter(email, mailbox, engine, sale, minor, paid):
    """Of all in parts an operator is told until the charge says so; a part that is seen before the success waits for that."""
    await refunded(engine, minor)
    await email.payments.handle([payment(sale, amount_refunded_minor=minor, paid=paid)])

    assert (mailbox.letters, await letters(engine, "refund")) == ([], [])


async def test_a_part_of_late_money_mails_nobody(email, mailbox, engine, sale):
    """A payment that holds no booking is a matter for a person."""
    await query(engine, "update bookings set payment_id = gen_random_uuid()")
    await refunded(engine, 2000)
    await email.payments.handle([payment(sale, amount_refunded_minor=2000)])

    assert mailbox.letters == []
    assert await letters(engine, "refund") == [("client", "suppressed", "payment_holds_no_booking")]


async def test_a_part_refunded_after_the_session_was_called_off_does_not_say_that_it_stays(email, mailbox, engine, sale):
    """CultureBridge cancelled the booking, and gave half of it back."""
    await query(engine, "update bookings set status = 'cancelled'")
    await refunded(engine, 3750)
    await email.payments.handle([payment(sale, amount_refunded_minor=3750)])

    [letter] = mailbox.letters
    assert "stays" not in letter.text


async def test_a_delayed_payment_that_failed_tells_the_client_once(email, mailbox, engine, sale):
    """Only the client, and no calendar file; a repetition and a later change say nothing again."""
    await unpaid(engine)
    await email.payments.handle([failed(sale), failed(sale, version=2, failure_reason="canceled")])
    await email.payments.handle([failed(sale)])

    assert told(mailbox) == [("client", "Payment Failed: Session with Grace Hopper")]
    assert mailbox.letters[0].attachments == []


@pytest.mark.parametrize(
    "changes",
    [
        {"closed_reason": None, "failure_reason": "generic_decline"},
        {"closed_reason": "expired", "failure_reason": "expired"},
        {"closed_reason": "canceled", "failure_reason": "canceled"},
        {"paid": True, "status": "succeeded"},
    ],
)
async def test_who_saw_it_on_the_page_or_paid_after_all_gets_no_letter(email, mailbox, engine, sale, changes):
    """A decline, an expiry and a cancellation are no news to who was there."""
    await unpaid(engine)
    await email.payments.handle([failed(sale, **changes)])

    assert (mailbox.letters, await letters(engine, "payment_failed")) == ([], [])


@pytest.mark.parametrize("paid_by", ["this payment", "another"])
async def test_a_failure_that_is_told_too_late_tells_nobody(email, mailbox, engine, sale, paid_by):
    """The client has paid by now: the same payment in the end, or another for the same booking."""
    if paid_by == "this payment":
        await query(engine, "update bookings set status = 'pending', payment_id = null")
    else:
        await query(engine, "update payments set paid = false")
    await email.payments.handle([failed(sale)])

    assert mailbox.letters == []
    assert await letters(engine, "payment_failed") == [("client", "suppressed", "paid_after_all")]


async def test_what_is_no_state_of_a_payment_is_refused_and_the_others_go_on(email, mailbox, engine, sale):
    """To the dead letters of its topic, with the reason."""
    await refunded(engine, 2000)
    garbage = [record(value, topic="payments.events") for value in (b"", b"\xff", b"[]", b'{"data": 1}')]
    bad = payment(sale, amount_refunded_minor=2000, currency="€")
    await email.payments.handle([*garbage, bad, payment(sale, amount_refunded_minor=2000)])

    assert email.published.refusals("payments.events.dlt") == ["undecodable"] * 4 + ["bad_currency"]
    assert len(mailbox.letters) == 1
