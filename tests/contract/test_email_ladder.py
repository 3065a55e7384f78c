"""Letters that the mail server refuses: the steps that they climb, the dead letters that they end as, and their replay."""

import pytest

from consumers.email import sending
from consumers.email.breaker import MailServerAway
from deploy.dev.mailbox import Fault, Switches
from shared import messages, metrics
from shared.errors import KafkaAway
from shared.kafka.records import Incoming
from tests.support.letters import address, both, event, headers, now_ms, recipients, replay_of, sales, sql, states


@pytest.fixture
async def sale(engine):
    return (await sales(engine, 1))[0]


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
    began_ms = now_ms()
    await email.changes.handle([confirmed])
    for attempts, seconds in enumerate((1, 2, 4, 8, 16), start=1):
        assert await states(engine) == [("client", "retrying", attempts), ("coach", "sent", 1)]
        [ticket] = email.published.incoming(f"email.retry.{seconds}s")
        told = headers(ticket)
        assert began_ms <= int(told.pop("x-due-ms")) - seconds * 1000 <= now_ms()
        assert told == {
            "correlation_id": "c-1",
            "content-type": "application/json",
            "x-attempt": str(attempts),
            "x-error": "smtp_transient:450 4.0.0",
            "x-origin": confirmed.place,
        }
        began_ms = now_ms()
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


async def test_a_letter_that_may_have_arrived_is_counted_once_however_long_the_server_is_away(email, mailbox, engine, sale):
    """Claims that send nothing bring nobody a second letter; cancelled then, its row still says that it may have arrived."""
    counted = metrics.letter_duplicates_possible._value.get()
    client = address(sale, "client")
    await mailbox.switch(Switches(faults=(Fault(at="data", what="accept_then_cut", recipient=client, times=1),)))
    await email.changes.handle([event(sale)])
    await mailbox.switch(Switches(listening=False))
    for _ in range(3):
        with pytest.raises(MailServerAway):
            await email.retries.handle(email.published.incoming("email.retry.1s"))
    assert metrics.letter_duplicates_possible._value.get() == counted + 1
    assert await states(engine, "role, possible_duplicates") == [("client", 1), ("coach", 0)]

    await sql(engine, "update bookings set status = 'cancelled'")
    await email.retries.handle(email.published.incoming("email.retry.1s"))
    assert ("client", "cancelled_perhaps_sent") in await states(engine, "role, reason")


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


async def test_a_replay_whose_process_died_in_a_slow_conversation_is_looked_at_again(email, mailbox, engine, sale, monkeypatch):
    """Its lease runs out, and the ticket that it left, an ordinary one by now, sends the letter."""
    client = address(sale, "client")
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=client),)))
    await email.changes.handle([event(sale)])
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="hang"),)))
    with monkeypatch.context() as impatient:
        impatient.setattr(sending, "PATIENCE_SECONDS", 0.05)
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
