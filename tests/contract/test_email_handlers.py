"""From a booking's event to what the mail server holds: real PostgreSQL, a real mail server, every bad day."""

import asyncio
import uuid

import pytest

from consumers.email import sending, store
from consumers.email.breaker import MailServerAway
from consumers.email.sending import Stopping
from consumers.email.store import Taking
from deploy.dev.mailbox import Fault, Switches
from shared import clock, messages, metrics
from shared.db.engine import rows
from shared.errors import KafkaAway
from shared.kafka.records import Incoming
from tests.builders import Sale, insert_sales, record


@pytest.fixture
async def sale(engine):
    return (await sales(engine, 1))[0]


async def sales(engine, count):
    made = [Sale() for _ in range(count)]
    async with engine.begin() as tx:
        await insert_sales(tx, *made, booking_status="confirmed")
    return made


def event(sale, name="booking.confirmed", **changes):
    data = {
        "booking_id": uuid.UUID(sale.booking_id),
        "version": 1,
        "payment_id": uuid.UUID(sale.payment_id),
        "status": name.partition(".")[2],
        "reason": None,
        "amount_minor": sale.amount_minor,
        "currency": sale.currency,
    }
    value = messages.booking_event(name, messages.BookingChange(**data | changes), cause=sale.tag, at=clock.now())
    return record(value, topic="bookings.events", key=sale.booking_id.encode(), headers=(("correlation_id", b"c-1"),))


def address(sale, role):
    return f"{role}-{sale.client_id if role == 'client' else sale.coach_id}@example.com"


def recipients(mailbox):
    return sorted(letter.to[0] for letter in mailbox.letters)


def both(sale):
    return [address(sale, "client"), address(sale, "coach")]


async def states(engine, columns="role, state, attempts"):
    async with engine.begin() as tx:
        return [tuple(r) for r in await rows(tx, f"select {columns} from letters order by role")]


async def sql(engine, statement, *parameters):
    async with engine.begin() as tx:
        return await rows(tx, statement, *parameters)


def headers(one):
    return {name: value.decode() for name, value in one.headers}


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


@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_a_letter_refused_for_good_is_a_dead_letter_and_the_other_arrives(email, mailbox, engine, sale, at):
    """5xx to RCPT and DATA: a ticket in email.dlt with its reason, and the other person gets theirs."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=550, recipient=address(sale, "client")),)))
    confirmed = event(sale)
    await email.changes.handle([confirmed])

    [dead] = email.published.to("email.dlt")
    assert recipients(mailbox) == [address(sale, "coach")]
    assert await states(engine) == [("client", "dead", 1), ("coach", "sent", 1)]
    ticket = messages.letter_tickets.decode(dead.value)
    assert (ticket.kind, ticket.role, str(ticket.booking_id)) == ("confirmation", "client", sale.booking_id)
    assert dead.key == sale.booking_id.encode()
    assert headers(dead) == {
        "correlation_id": "c-1",
        "content-type": "application/json",
        "x-attempt": "1",
        "x-error": "smtp_permanent:550 5.0.0",
        "x-group": "email",
        "x-origin": confirmed.place,
    }
    assert b"@" not in dead.value

    await mailbox.switch(Switches())
    await email.changes.handle([confirmed])
    assert recipients(mailbox) == [address(sale, "coach")]


@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_a_letter_refused_for_now_climbs_the_whole_ladder(email, mailbox, engine, sale, at):
    """One try and five retries, due 1, 2, 4, 8 and 16 s after the one before; then the dead letters, with all that is known."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=450, recipient=address(sale, "client")),)))
    confirmed = event(sale)
    await email.changes.handle([confirmed])
    for attempts, seconds in enumerate((1, 2, 4, 8, 16), start=1):
        assert await states(engine) == [("client", "retrying", attempts), ("coach", "sent", 1)]
        [ticket] = email.published.incoming(f"email.retry.{seconds}s")
        told = headers(ticket)
        assert 0 <= int(told.pop("x-due-ms")) - clock.now().timestamp() * 1000 + 500 <= seconds * 1000 + 500
        assert told == {
            "correlation_id": "c-1",
            "content-type": "application/json",
            "x-attempt": str(attempts),
            "x-error": "smtp_transient:450 4.0.0",
            "x-origin": confirmed.place,
        }
        await email.retries.handle([ticket])
        await email.retries.handle([ticket])

    [dead] = email.published.to("email.dlt")
    assert (headers(dead)["x-attempt"], headers(dead)["x-error"]) == ("6", "smtp_transient:450 4.0.0")
    assert await states(engine) == [("client", "dead", 6), ("coach", "sent", 1)]
    assert recipients(mailbox) == [address(sale, "coach")]


async def test_a_letter_that_is_taken_on_the_ladder_is_sent_once(email, mailbox, engine, sale):
    """Refused twice, then accepted: whatever tickets are left find it sent."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=450, recipient=address(sale, "client"), times=2),)))
    await email.changes.handle([event(sale)])
    [first] = email.published.incoming("email.retry.1s")
    await email.retries.handle([first])
    [second] = email.published.incoming("email.retry.2s")
    for ticket in (second, first, second):
        await email.retries.handle([ticket])

    assert recipients(mailbox) == both(sale)
    assert await states(engine) == [("client", "sent", 3), ("coach", "sent", 1)]
    assert email.published.to("email.retry.4s") == []


async def test_a_booking_cancelled_while_its_letter_climbs_suppresses_it(email, mailbox, engine, sale):
    """Between two attempts the session was called off: nobody is told of it any more."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=450, recipient=address(sale, "client"), times=1),)))
    await email.changes.handle([event(sale)])
    await sql(engine, "update bookings set status = 'cancelled'")
    await email.retries.handle(email.published.incoming("email.retry.1s"))

    assert recipients(mailbox) == [address(sale, "coach")]
    assert await states(engine, "role, state, reason") == [
        ("client", "suppressed", "cancelled_before_sent"),
        ("coach", "sent", None),
    ]


async def test_a_dead_letter_needs_kafkas_word(email, mailbox, engine, sale):
    """Kafka away while a letter is to be buried: nothing is marked, the batch is not let go, and later it is dead once."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550),)))
    email.published.away = True
    with pytest.raises(KafkaAway):
        await email.changes.handle([event(sale)])
    assert {state for _, state, _ in await states(engine)} == {"sending"}


@pytest.mark.parametrize(("what", "arrived"), [("cut", 2), ("accept_then_cut", 3)])
async def test_a_connection_lost_around_the_250_climbs_and_counts_what_may_come_twice(
    email, mailbox, engine, sale, what, arrived
):
    """Nobody knows whether it arrived: it is tried again under the same Message-ID, as a possible duplicate."""
    counted = metrics.letter_duplicates_possible._value.get()
    await mailbox.switch(Switches(faults=(Fault(at="data", what=what, recipient=address(sale, "client"), times=1),)))
    await email.changes.handle([event(sale)])
    [ticket] = email.published.incoming("email.retry.1s")
    assert headers(ticket)["x-error"] == "connection_lost:connection_lost_after_dot"
    await email.retries.handle([ticket])

    assert len(mailbox.letters) == arrived
    assert len({letter.message_id for letter in mailbox.letters}) == 2
    assert await states(engine, "role, state, possible_duplicates") == [("client", "sent", 1), ("coach", "sent", 0)]
    assert metrics.letter_duplicates_possible._value.get() == counted + 1


async def test_a_replay_sends_a_dead_letter_once(email, mailbox, engine, sale):
    """Replayed twice, sent once."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=address(sale, "client")),)))
    await email.changes.handle([event(sale)])
    await mailbox.switch(Switches())

    await email.retries.handle([replay_of(email)])
    await email.retries.handle([replay_of(email)])

    assert recipients(mailbox) == both(sale)
    assert await states(engine, "role, state, possible_duplicates") == [("client", "sent", 0), ("coach", "sent", 0)]


async def test_a_replayed_letter_has_the_whole_ladder_before_it(email, mailbox, engine, sale):
    """Given up after six attempts, replayed while the mailbox is still full: it climbs from the first step again."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=address(sale, "client")),)))
    await email.changes.handle([event(sale)])
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=450),)))
    await email.retries.handle([replay_of(email)])

    [ticket] = email.published.incoming("email.retry.1s")
    assert headers(ticket)["x-attempt"] == "1"
    assert await states(engine) == [("client", "retrying", 1), ("coach", "sent", 1)]


@pytest.mark.parametrize(("answer", "attempts", "steps"), [(550, 1, []), (452, 6, [1, 2, 4, 8, 16])])
async def test_a_replay_is_one_replay_however_slow_the_server_refuses(
    email, mailbox, engine, sale, monkeypatch, answer, attempts, steps
):
    """A slow conversation's ticket neither revives the letter that ended meanwhile nor tries it beside the ladder."""
    client = address(sale, "client")
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=client),)))
    await email.changes.handle([event(sale)])
    await mailbox.switch(Switches(delay_seconds=0.1, faults=(Fault(at="rcpt", what=answer),)))
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 0.05)
    conversations, deliver = [], email.delivery.deliver

    async def counted(letter, *, may_leave):
        conversations.append(letter.message_id)
        return await deliver(letter, may_leave=may_leave)

    email.delivery.deliver = counted
    handled = len(email.published.records)
    await email.retries.handle([replay_of(email)])
    await email.sender.settle()
    while handled < len(email.published.records) and len(conversations) <= attempts:
        tickets = [r for r in email.published.records[handled:] if r.topic != "email.dlt"]
        handled = len(email.published.records)
        for ticket in tickets:
            await email.retries.handle([Incoming(ticket.topic, 0, handled, ticket.key, ticket.value, ticket.headers)])
            await email.sender.settle()

    climbed = [r for r in email.published.records if b"smtp_transient" in dict(r.headers).get("x-error", b"")]
    assert len(conversations) == attempts
    assert [r.topic for r in climbed if r.topic != "email.dlt"] == [f"email.retry.{seconds}s" for seconds in steps]
    assert len(email.published.to("email.dlt")) == 2
    assert await states(engine) == [("client", "dead", attempts), ("coach", "sent", 1)]


async def test_a_replay_whose_process_died_in_a_slow_conversation_is_looked_at_again(email, mailbox, engine, sale):
    """Its lease runs out, and the ticket that it left, an ordinary one by now, sends the letter."""
    client = address(sale, "client")
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=client),)))
    await email.changes.handle([event(sale)])
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="hang"),)))
    await email.retries.handle([replay_of(email)])
    [ticket] = email.published.incoming("email.retry.1s")
    assert "x-replay" not in headers(ticket)

    await mailbox.switch(Switches())
    await sql(engine, "update letters set lease_until = now() - interval '1 s' where role = 'client'")
    await email.retries.handle([ticket])
    assert recipients(mailbox) == both(sale)
    for conversation in list(mailbox.conversations):
        conversation.abort()
    await email.sender.settle()
    assert await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]


async def test_a_replay_that_finds_the_letter_busy_stays_a_replay(email, mailbox, engine, sale):
    """It has claimed nothing yet: if the letter dies once more, the replay is still to be done."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=address(sale, "client")),)))
    await email.changes.handle([event(sale)])
    await sql(engine, "update letters set state = 'sending', lease_until = now() + interval '20 s' where role = 'client'")
    await email.retries.handle([replay_of(email)])

    [ticket] = email.published.incoming("email.retry.1s")
    assert headers(ticket)["x-replay"] == "1"


def replay_of(email):
    """The one dead letter, as `cb-ops dlt replay` puts it back."""
    [dead] = email.published.incoming("email.dlt")
    return Incoming("email.retry.1s", 0, 0, dead.key, dead.value, (("x-attempt", b"0"), ("x-replay", b"1")))


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


async def test_a_ticket_that_is_none_or_knows_no_letter_is_a_dead_letter(email):
    """The step takes only tickets of letters that the ledger has."""
    unknown = messages.ticket(messages.LetterTicket(uuid.uuid4(), uuid.uuid4(), "confirmation", "client"))
    await email.retries.handle([record(b"{", topic="email.retry.1s"), record(unknown, topic="email.retry.1s")])

    assert sorted(headers(d)["x-error"] for d in email.published.to("email.dlt")) == ["undecodable", "unknown_letter"]


async def test_while_the_mail_server_is_away_nothing_is_lost_and_nothing_counted(email, mailbox, engine):
    """The batch is not let go, readiness knows the reason, and when the server is back every letter goes out once."""
    made = await sales(engine, 5)
    await mailbox.switch(Switches(listening=False))
    for _ in range(3):
        with pytest.raises(MailServerAway):
            await email.changes.handle([event(sale) for sale in made])
        assert "ConnectionRefusedError" in email.breaker.reason
    assert {(state, attempts) for _, state, attempts in await states(engine)} == {("queued", 0)}
    assert email.published.records == []

    await mailbox.switch(Switches())
    await email.changes.handle([event(sale) for sale in made])
    assert recipients(mailbox) == sorted(a for sale in made for a in both(sale))
    assert email.breaker.reason is None
    assert {row[1] for row in await states(engine)} == {"sent"}


async def test_what_went_out_before_the_server_went_away_is_not_sent_again(email, mailbox, engine):
    """The server breaks down in the middle of a batch: the rest follows later, the first ones never again."""
    made = await sales(engine, 6)
    await mailbox.switch(Switches(faults=(Fault(at="data", what=421, recipient=address(made[3], "client")),)))
    with pytest.raises(MailServerAway):
        await email.changes.handle([event(sale) for sale in made])
    sent_before = len(mailbox.letters)
    assert 0 < sent_before < 12

    await mailbox.switch(Switches())
    await email.changes.handle([event(sale) for sale in made])
    assert recipients(mailbox) == sorted(a for sale in made for a in both(sale))


async def test_while_tripped_one_letter_knocks_for_all(email, mailbox, engine):
    """A server in trouble is not stormed: once tripped, a batch makes one attempt and gives way."""
    made = await sales(engine, 10)
    await mailbox.switch(Switches(faults=(Fault(at="connect", what=421),)))
    with pytest.raises(MailServerAway):
        await email.changes.handle([event(sale) for sale in made])
    before = mailbox.connections_total
    with pytest.raises(MailServerAway):
        await email.changes.handle([event(sale) for sale in made])
    assert mailbox.connections_total == before + 1


async def test_a_letter_under_anothers_lease_delays_nobody(email, mailbox, engine):
    """It goes to the 1 s step with its attempt unchanged; the others are sent, and later it is sent once."""
    made = await sales(engine, 2)
    entering = [event(sale) for sale in made]
    await email.changes.handle(entering[1:])
    await email.changes._batches.handle(entering[:1])
    busy = address(made[0], "client")
    [(letter_id,)] = await sql(engine, "select id from letters where booking_id = $1 and role = 'client'", made[0].booking_id)
    async with engine.begin() as tx:
        token = uuid.uuid4()
        await store.claim(tx, [Taking(letter_id, token, 0, maybe_sent=False)])
        await store.hand_over(tx, [(letter_id, token)])

    await email.changes.handle(entering)

    assert busy not in recipients(mailbox)
    assert len(mailbox.letters) == 3
    [later] = email.published.incoming("email.retry.1s")
    told = dict(later.headers)
    assert (told["x-attempt"], told["x-origin"]) == (b"0", entering[0].place.encode())
    assert 0 < int(told["x-due-ms"]) - clock.now().timestamp() * 1000 <= 1000

    await email.retries.handle([later])
    assert len(email.published.to("email.retry.1s")) == 2
    await sql(engine, "update letters set lease_until = now() - interval '1 s' where id = $1", letter_id)
    await email.retries.handle([later])
    await email.retries.handle([later])
    assert recipients(mailbox).count(busy) == 1
    assert dict(await states(engine, "id, possible_duplicates"))[letter_id] == 1


async def test_a_mark_that_lost_its_claim_leaves_the_letter_to_its_holder(email, mailbox, engine, sale):
    """Refused while somebody else holds the lease by now: the record goes to the 1 s step, attempts unchanged."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550),)))
    deliver = email.delivery.deliver

    async def overtaken(letter, *, may_leave):
        await sql(engine, "update letters set claim_token = gen_random_uuid()")
        return await deliver(letter, may_leave=may_leave)

    email.delivery.deliver = overtaken
    await email.changes.handle([event(sale)])

    assert [row[1:] for row in await states(engine)] == [("sending", 0), ("sending", 0)]
    assert [headers(r)["x-attempt"] for r in email.published.to("email.retry.1s")] == ["0", "0"]


async def test_a_letter_whose_claim_was_lost_does_not_leave(email, mailbox, engine, sale):
    """Somebody else holds the lease by the time DATA would begin: the server hears no letter, and the next one is unharmed."""
    deliver = email.delivery.deliver

    async def overtaken(letter, *, may_leave):
        await sql(engine, "update letters set claim_token = gen_random_uuid() where role = 'client'")
        return await deliver(letter, may_leave=may_leave)

    email.delivery.deliver = overtaken
    await email.changes.handle([event(sale)])

    assert recipients(mailbox) == [address(sale, "coach")]
    assert await states(engine) == [("client", "sending", 0), ("coach", "sent", 1)]
    assert len(email.published.to("email.retry.1s")) == 1


async def test_a_recipient_whose_server_hangs_holds_up_nobody(email, mailbox, engine):
    """All others arrive, the batch is let go with a ticket for the slow one, which ends by itself under its lease."""
    made = await sales(engine, 5)
    slow = address(made[2], "client")
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="hang", recipient=slow),)))
    async with asyncio.timeout(10):
        await email.changes.handle([event(sale) for sale in made])
    assert recipients(mailbox) == sorted({a for sale in made for a in both(sale)} - {slow})
    [ticket] = email.published.incoming("email.retry.1s")
    assert headers(ticket)["x-attempt"] == "0"

    await email.retries.handle([ticket])
    assert len(email.published.to("email.retry.1s")) == 2
    await mailbox.switch(Switches())
    for conversation in list(mailbox.conversations):
        conversation.abort()
    await email.sender.settle()
    assert not email.sender._left_alone
    [climbing] = [r for r in email.published.incoming("email.retry.1s") if headers(r)["x-attempt"] == "1"]
    await email.retries.handle([ticket, climbing])
    assert recipients(mailbox).count(slow) == 1


async def test_a_250_that_could_not_be_recorded_is_recorded_before_anything_else(email, mailbox, engine, sale, monkeypatch):
    """The database goes away right after the 250: the process remembers, and does not send again."""
    record_sent = store.record_sent

    async def away(*_arguments):
        raise ConnectionResetError

    monkeypatch.setattr(store, "record_sent", away)
    with pytest.raises(ConnectionResetError):
        await email.changes.handle([event(sale)])
    assert len(mailbox.letters) == 2

    monkeypatch.setattr(store, "record_sent", record_sent)
    await email.changes.handle([event(sale)])
    assert len(mailbox.letters) == 2
    assert await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]
    assert email.published.records == []


def counted_as_sent():
    return sum(metrics.letters.labels("confirmation", role, "sent")._value.get() for role in ("client", "coach"))


async def test_a_letter_being_recorded_is_not_recorded_by_its_neighbours(email, mailbox, engine, sale, monkeypatch):
    """Another subscription's batch neither waits for the commit nor counts the letters a second time."""
    record_sent, before = store.record_sent, counted_as_sent()
    begun, go_on, recorded = asyncio.Event(), asyncio.Event(), []

    async def slowly(tx, sent):
        recorded.extend(one.letter_id for one in sent)
        begun.set()
        await go_on.wait()
        return await record_sent(tx, sent)

    monkeypatch.setattr(store, "record_sent", slowly)
    handling = asyncio.create_task(email.changes.handle([event(sale)]))
    async with asyncio.timeout(5):
        await begun.wait()
        await email.sender.send_all([])
    go_on.set()
    await handling

    assert len(recorded) == len(set(recorded)) == 2
    assert counted_as_sent() == before + 2


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_could_not_be_recorded_is_recorded_once_by_many(email, mailbox, engine, sale, monkeypatch, cancelled):
    """All subscriptions come back at once, one of them is perhaps told to stop: each letter is counted as sent once."""
    record_sent, before, recorded = store.record_sent, counted_as_sent(), []

    async def away(*_arguments):
        raise ConnectionResetError

    async def told(tx, sent):
        recorded.extend(one.letter_id for one in sent)
        await asyncio.sleep(0)
        return await record_sent(tx, sent)

    monkeypatch.setattr(store, "record_sent", away)
    with pytest.raises(ConnectionResetError):
        await email.changes.handle([event(sale)])
    monkeypatch.setattr(store, "record_sent", told)
    batches = [asyncio.create_task(email.sender.send_all([])) for _ in range(3)]
    if cancelled:
        await asyncio.sleep(0)
        batches[0].cancel()
    await asyncio.gather(*batches, return_exceptions=True)

    assert counted_as_sent() == before + 2
    assert set(recorded) == {letter_id for (letter_id,) in await states(engine, "id")}
    assert cancelled or len(recorded) == 2
    assert await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]


async def test_a_stop_begins_no_letter(email, mailbox, engine, sale):
    """When the process ends, what was not begun stays for the next one."""
    email.stopping.set()
    with pytest.raises(Stopping):
        await email.changes.handle([event(sale)])
    assert mailbox.letters == []
    assert {row[1] for row in await states(engine)} == {"queued"}
