"""From a booking's event to what the mail server holds: real PostgreSQL, a real mail server; who is told, and who cannot be."""

import uuid

import pytest

from shared import messages
from shared.errors import Stopping
from shared.kafka.batch import CULPRITS_PER_MINUTE_MAX
from tests.support.builders import record
from tests.support.letters import address, both, event, headers, recipients, sales, sql, states


@pytest.fixture
async def sale(engine):
    return (await sales(engine, 1))[0]


async def test_a_confirmed_booking_tells_both(email, mailbox, engine, sale):
    """Two letters, with the amount of the payment and the ids of the ledger, both recorded as sent."""
    await email.changes.handle([event(sale)])

    assert recipients(mailbox) == both(sale)
    assert await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]
    assert {letter.message_id for letter in mailbox.letters} == {m for (m,) in await states(engine, "message_id")}
    assert email.published.records == []


async def test_redelivery_tells_nobody_again(email, mailbox, sale):
    """The same event in one batch, in another, by another id: nothing, for ever."""
    await email.changes.handle([event(sale), event(sale)])
    await email.changes.handle([event(sale)])
    await email.changes.handle([event(sale, version=9)])

    assert recipients(mailbox) == both(sale)
    assert email.published.records == []


@pytest.mark.parametrize("name", ["booking.payment_conflict", "booking.something_new"])
async def test_other_events_tell_nobody(email, mailbox, engine, sale, name):
    """Late money and what is yet to be invented mail nobody, though the booking is confirmed."""
    await email.changes.handle([event(sale, name, status="confirmed")])

    assert (mailbox.letters, await states(engine)) == ([], [])


@pytest.mark.parametrize("order", [("booking.confirmed", "booking.cancelled"), ("booking.cancelled", "booking.confirmed")])
@pytest.mark.parametrize("one_batch", [True, False])
async def test_refunded_before_confirmed_tells_nobody(email, mailbox, engine, sale, order, one_batch):
    """A refund seen before the success suppresses the letters, in any order, and the ledger says why."""
    await sql(engine, "update bookings set status = 'cancelled'")
    events = [event(sale, name) for name in order]
    for batch in [events] if one_batch else [[one] for one in events]:
        await email.changes.handle(batch)

    assert mailbox.letters == []
    assert sorted(await states(engine, "kind, state, reason")) == [
        *[("cancellation", "suppressed", "confirmation_not_sent")] * 2,
        *[("confirmation", "suppressed", "cancelled_before_sent")] * 2,
    ]


@pytest.mark.parametrize(("email_address", "reason"), [("", "missing_address"), ("not an address", "bad_address")])
async def test_without_an_address_an_operator_is_told(email, mailbox, engine, sale, email_address, reason):
    """A dead letter and a matter for a person; the coach still gets theirs, and nobody is told twice."""
    await sql(engine, "update users set email = $1 where id = $2", email_address, sale.client_id)
    await email.changes.handle([event(sale)])
    await email.changes.handle([event(sale)])

    [dead] = email.published.to("email.dlt")
    assert headers(dead)["x-error"] == reason
    assert recipients(mailbox) == [address(sale, "coach")]
    assert await states(engine) == [("client", "dead", 0), ("coach", "sent", 1)]
    matters = await sql(engine, "select reason, aggregate from attention")
    assert [tuple(m) for m in matters] == [(f"letter_{reason}", f"booking:{sale.booking_id}")]


@pytest.mark.parametrize(
    "gap",
    [
        "delete from client_profiles",
        "update client_profiles set first_name = null, last_name = null, timezone = null",
        "update client_profiles set first_name = '  ', last_name = '', timezone = 'Mars/Olympus'",
    ],
    ids=["no profile", "nulls", "blanks and a wrong zone"],
)
async def test_what_is_not_known_of_a_person_keeps_no_letter_back(email, mailbox, engine, sale, gap):
    """A neutral greeting, the time in UTC, and both letters arrive."""
    await sql(engine, gap)
    await email.changes.handle([event(sale)])

    assert recipients(mailbox) == both(sale)
    [letter] = [letter for letter in mailbox.letters if letter.to == [address(sale, "client")]]
    assert letter.text.startswith("Hello,")
    assert "10:00, UTC" in letter.text
    assert "None" not in letter.text + letter.subject


async def test_a_newer_releases_letters_wait_for_it_and_end_nobody(email, mailbox, engine):
    """Beside that release, or back from it: each is a dead letter that says so, however many come, and goes back later."""
    await sales(engine, CULPRITS_PER_MINUTE_MAX + 1)
    await sql(
        engine,
        "insert into letters (id, booking_id, kind, role, amount_minor, currency, message_id, state) "
        "select gen_random_uuid(), id, 'reminder', 'client', 7500, 'USD', '<' || id || '@culturebridge.example>', 'queued' "
        "from bookings",
    )
    of_letters = [messages.LetterTicket(*row, "reminder", "client") for row in await states(engine, "id, booking_id")]
    await email.retries.handle([record(messages.ticket(one), topic="email.retry.1s") for one in of_letters])

    assert mailbox.letters == []
    assert [headers(d)["x-error"] for d in email.published.to("email.dlt")] == ["unknown_kind"] * len(of_letters)
    assert set(await states(engine, "state, attempts")) == {("dead", 0)}


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"])
async def test_a_letter_that_cannot_be_written_holds_up_nobody(email, mailbox, engine, moment):
    """A session outside the time that Python knows: its letters are dead, and all the others go out."""
    broken, whole = await sales(engine, 2)
    await sql(engine, f"update bookings set session_datetime = '{moment}' where id = $1", broken.booking_id)
    await email.changes.handle([event(broken), event(whole)])

    assert [headers(d)["x-error"] for d in email.published.to("email.dlt")] == ["cannot_compose:OverflowError"] * 2
    assert recipients(mailbox) == both(whole)


async def test_bytes_that_are_no_event_are_refused_and_the_others_go_on(email, mailbox, sale):
    """Garbage, a tombstone, a wrong currency: to the dead letters of their topic with the reason."""
    garbage = [b"", b"\xff\xfe", b"[]", b'{"id": 1}', b"[" * 100_000]
    await email.changes.handle(
        [*(record(v, topic="bookings.events") for v in garbage), event(sale, currency="$\n1"), event(sale)]
    )

    refused = email.published.to("bookings.events.dlt")
    assert [headers(r)["x-error"] for r in refused] == ["undecodable"] * 5 + ["bad_currency"]
    assert [r.value for r in refused[:5]] == garbage
    assert recipients(mailbox) == both(sale)


async def test_letters_whose_booking_is_gone_are_dead_and_an_operator_is_told(email, mailbox, engine, sale):
    """Somebody removed it by hand: there is nothing to write, and nobody is left waiting for ever."""
    await email.changes._batches.handle([event(sale)])
    await sql(engine, "update bookings set payment_id = null")
    await sql(engine, "delete from payments")
    await sql(engine, "delete from bookings")
    await email.changes.handle([event(sale)])

    assert mailbox.letters == []
    assert {(state, attempts) for _, state, attempts in await states(engine)} == {("dead", 0)}
    assert {headers(one)["x-error"] for one in email.published.to("email.dlt")} == {"booking_missing"}
    matters = await sql(engine, "select reason, aggregate from attention")
    assert [tuple(row) for row in matters] == [("letter_booking_missing", f"booking:{sale.booking_id}")] * 2


async def test_a_ticket_that_is_none_or_knows_no_letter_is_a_dead_letter(email):
    """The step takes only tickets of letters that the ledger has."""
    unknown = messages.ticket(messages.LetterTicket(uuid.uuid4(), uuid.uuid4(), "confirmation", "client"))
    await email.retries.handle([record(b"{", topic="email.retry.1s"), record(unknown, topic="email.retry.1s")])

    assert sorted(headers(d)["x-error"] for d in email.published.to("email.dlt")) == ["undecodable", "unknown_letter"]


async def test_a_stop_begins_no_letter(email, mailbox, engine, sale):
    """When the process ends, what was not begun stays for the next one."""
    email.stopping.set()
    with pytest.raises(Stopping):
        await email.changes.handle([event(sale)])
    assert mailbox.letters == []
    assert {row[1] for row in await states(engine)} == {"queued"}
