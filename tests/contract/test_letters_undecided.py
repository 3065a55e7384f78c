"""A letter about which another consumer or sender has yet to decide: it waits, says for what, and is not forgotten."""

import pytest
from structlog.testing import capture_logs

from shared.db.engine import rows
from shared.kafka.records import Incoming
from tests.support.builders import Sale, insert_sales, payment_event, record
from tests.support.database import query
from tests.support.letters import headers

STEPS = [f"email.retry.{seconds}s" for seconds in (1, 2, 4, 8, 16)]
MATTERS = "select reason, aggregate, cause from attention"


@pytest.fixture
async def sale(engine):
    """Confirmed and refunded in part; the bookings consumer has not judged the success yet."""
    one = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, one, booking_status="confirmed")
        await rows(tx, "update bookings set payment_id = $1", one.payment_id)
        await rows(tx, "update payments set paid = true, status = 'succeeded', amount_refunded_minor = 2000")
    return one


def refund(sale):
    value = payment_event(sale, "payment.partially_refunded", amount_refunded_minor=2000)
    return record(value, topic="payments.events", key=sale.payment_id.encode())


def newest(email):
    ticket = email.published.records[-1]
    return Incoming(ticket.topic, 0, len(email.published.records), ticket.key, ticket.value, ticket.headers)


async def judged(engine, sale):
    await query(engine, "insert into booking_payments values ($1, $2, 1, true, false)", sale.payment_id, sale.booking_id)


async def test_an_undecided_letter_waits_on_one_step_after_the_other_and_is_sent_once_it_is_decided(
    email, mailbox, engine, sale
):
    """No attempt is counted, and the log says what it waits for."""
    with capture_logs() as lines:
        await email.payments.handle([refund(sale)])
        for _ in range(5):
            await email.retries.handle([newest(email)])
    assert [ticket.topic for ticket in email.published.records] == [*STEPS, STEPS[-1]]
    assert [headers(ticket)["x-looks"] for ticket in email.published.records] == ["1", "2", "3", "4", "5", "6"]
    assert {headers(ticket)["x-attempt"] for ticket in email.published.records} == {"0"}
    reasons = [(line["reason"], line["count"]) for line in lines if line["event"] == "letter.deferred"]
    assert reasons == [("undecided:success_not_judged", looks) for looks in range(1, 7)]

    await judged(engine, sale)
    for _ in range(2):
        await email.retries.handle([newest(email)])

    assert len(email.published.records) == 6
    assert await query(engine, "select state, attempts from letters") == [("sent", 1)]
    assert len(mailbox.letters) == 1


async def test_a_letter_that_is_undecided_for_an_hour_is_a_matter_for_a_person_and_goes_on(email, mailbox, engine, sale):
    """One matter, also when its ticket comes twice; none once it was resolved; and the letter is sent when it is decided."""
    await email.payments.handle([refund(sale)])
    [(letter_id,)] = await query(engine, "select id::text from letters")

    async def look(number):
        ticket = newest(email)
        others = tuple(header for header in ticket.headers if header[0] != "x-looks")
        looked = (*others, ("x-looks", str(number).encode()))
        await email.retries.handle([Incoming(ticket.topic, 0, 0, ticket.key, ticket.value, looked)] * 2)

    await look(228)
    assert await query(engine, MATTERS) == []
    await look(229)
    expected = [("letter_undecided:success_not_judged", f"booking:{sale.booking_id}", letter_id)]
    assert await query(engine, MATTERS) == expected

    await query(engine, "update attention set resolved_at = now(), resolved_by = 'kim'")
    await look(230)
    assert await query(engine, MATTERS) == expected
    await judged(engine, sale)
    await look(231)
    assert len(mailbox.letters) == 1


async def test_a_matter_that_cannot_be_opened_keeps_the_ticket(email, engine, sale, monkeypatch):
    """PostgreSQL goes away at that look: nothing is published, and the look comes again."""
    await email.payments.handle([refund(sale)])
    ticket = newest(email)
    ticket = Incoming(ticket.topic, 0, 0, ticket.key, ticket.value, (("x-looks", b"229"),))

    async def away(*_arguments, **_named):
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr("shared.db.attention.open_", away)
        with pytest.raises(ConnectionResetError):
            await email.retries.handle([ticket])
    assert len(email.published.records) == 1
    await email.retries.handle([ticket])
    assert len(await query(engine, MATTERS)) == 1
