"""A letter has one sender at a time, and a 250 is recorded once: others' leases, claims that were lost, a database away."""

import asyncio
import uuid

import pytest
from prometheus_client import REGISTRY

from consumers.email import store
from consumers.email.ledger import Leased
from consumers.email.ledger_writer import Claimed, LedgerWriter
from consumers.email.store import ClaimWrite
from consumers.email.tickets import DueLetter
from deploy.dev.mailbox import Fault, Switches
from shared.kafka import backoff
from shared.messages import LetterTicket
from tests.support.letters import address, counted_as_sent, event, headers, now_ms, recipients, sales, sql, states
from tests.support.waiting import until


@pytest.fixture
async def sale(engine):
    return (await sales(engine, 1))[0]


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
        await store.claim(tx, [ClaimWrite(letter_id, token, 0, maybe_sent=False)])
        await store.hand_over(tx, [(letter_id, token)])

    began_ms = now_ms()
    await email.changes.handle(entering)

    assert busy not in recipients(mailbox)
    assert len(mailbox.letters) == 3
    [later] = email.published.incoming("email.retry.1s")
    told = dict(later.headers)
    assert (told["x-attempt"], told["x-origin"]) == (b"0", entering[0].place.encode())
    assert began_ms <= int(told["x-due-ms"]) - 1000 <= now_ms()

    await email.retries.handle([later])
    assert len(email.published.to("email.retry.1s")) == 2
    await sql(engine, "update letters set lease_until = now() - interval '1 s' where id = $1", letter_id)
    await email.retries.handle([later])
    await email.retries.handle([later])
    assert recipients(mailbox).count(busy) == 1
    assert dict(await states(engine, "id, possible_duplicates"))[letter_id] == 1


async def test_a_database_whose_clock_is_behind_takes_nothing_away_from_what_letters_took(email, engine, sale):
    """As after a failover: a sum that shrinks is to Prometheus a new process, whose letters took all of it just now."""
    before = REGISTRY.get_sample_value("letter_delivery_seconds_sum"), counted_as_sent()
    await email.changes._batches.handle([event(sale)])
    await sql(engine, "update letters set queued_at = now() + interval '1 hour'")
    await email.changes.handle([event(sale)])

    assert (REGISTRY.get_sample_value("letter_delivery_seconds_sum"), counted_as_sent()) == (before[0], before[1] + 2)


async def test_of_two_tickets_that_are_asked_for_in_one_go_one_has_the_letter(email, engine, sale):
    """The other finds it under a lease, as if it had come later: it is not written twice."""
    await email.changes._batches.handle([event(sale)])
    found = await sql(engine, "select id, booking_id, kind, role from letters order by role")
    client, coach = (DueLetter(LetterTicket(*row), attempt=0, replayed=False, record=event(sale)) for row in found)
    writer = LedgerWriter(engine)

    # The first question goes out at once; the two behind it go together.
    told = await asyncio.gather(*(writer.claim(due) for due in (coach, client, client)))

    assert [type(one) for one in told] == [Claimed, Claimed, Leased]


@pytest.mark.parametrize(("answer", "attempt"), [(550, "0"), (450, "1")])
async def test_a_mark_that_lost_its_claim_leaves_the_letter_to_its_holder(email, mailbox, engine, sale, answer, attempt):
    """Refused while somebody else holds the lease by now: one ticket each goes to the 1 s step, and finds it if they die."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=answer),)))
    deliver = email.delivery.deliver

    async def overtaken(letter, *, may_leave):
        await sql(engine, "update letters set claim_token = gen_random_uuid()")
        return await deliver(letter, may_leave=may_leave)

    email.delivery.deliver = overtaken
    await email.changes.handle([event(sale)])

    assert [row[1:] for row in await states(engine)] == [("sending", 0), ("sending", 0)]
    tickets = email.published.incoming("email.retry.1s")
    assert [headers(ticket)["x-attempt"] for ticket in tickets] == [attempt, attempt]

    email.delivery.deliver = deliver
    await mailbox.switch(Switches())
    await sql(engine, "update letters set lease_until = now() - interval '1 s'")
    await email.retries.handle(tickets)
    assert [row[1:] for row in await states(engine)] == [("sent", 1), ("sent", 1)]


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


async def test_a_250_is_recorded_though_no_batch_comes_any_more(email, mailbox, engine, sale, monkeypatch):
    """The batch is another member's by the time the database is back, who would send the letter again after its lease."""
    record_sent, tried = store.record_sent, asyncio.Event()

    async def away(*_arguments):
        tried.set()
        raise ConnectionResetError

    monkeypatch.setattr(store, "record_sent", away)
    with pytest.raises(ConnectionResetError):
        await email.changes.handle([event(sale)])
    tried.clear()
    async with asyncio.timeout(5):
        await tried.wait()
    monkeypatch.setattr(store, "record_sent", record_sent)

    async def both_are_recorded():
        return await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]

    await until(both_are_recorded, "what the mail server accepted is recorded")
    await email.sender.settle()
    assert len(mailbox.letters) == 2
    assert not email.sender._background._tasks


async def test_a_250_that_nobody_recorded_yet_is_recorded_at_the_end(email, mailbox, engine, sale, monkeypatch):
    """Whoever is told to stop does it now, instead of after the pause that it is in."""
    monkeypatch.setattr(backoff, "DELAY_SECONDS_MIN", 3600.0)
    monkeypatch.setattr(backoff, "DELAY_SECONDS_MAX", 3600.0)
    record_sent = store.record_sent

    async def away(*_arguments):
        raise ConnectionResetError

    monkeypatch.setattr(store, "record_sent", away)
    with pytest.raises(ConnectionResetError):
        await email.changes.handle([event(sale)])
    monkeypatch.setattr(store, "record_sent", record_sent)
    email.stopping.set()
    await email.sender.settle()

    assert len(mailbox.letters) == 2
    assert await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]


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
