"""What a sender does when the world fails in the middle of its batch: on a real database, with a real mail server."""

import asyncio

import pytest
from structlog.testing import capture_logs

from consumers.email import background, sending, store
from consumers.email.ledger_writer import LedgerWriter
from consumers.email.sending import MailServerSlow
from consumers.email.tickets import DueLetter
from deploy.dev.mailbox import Fault, Switches
from shared import clock, messages, metrics
from shared.db.engine import rows
from shared.errors import Stopping
from tests.support.builders import Sale, confirmed, insert_sales, record
from tests.support.members import until


@pytest.fixture
async def told(engine):
    """The record that makes both letters of a confirmed booking due."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale, booking_status="confirmed")
    return record(confirmed(sale), topic="bookings.events")


async def letters(engine, columns="state, attempts, possible_duplicates"):
    async with engine.begin() as tx:
        return {tuple(row) for row in await rows(tx, f"select {columns} from letters")}


async def test_a_letter_of_which_nobody_could_note_that_it_leaves_does_not_leave(email, mailbox, engine, told, monkeypatch):
    """The database goes away between RCPT and DATA: its error ends the batch, and they go out when it comes again, at once."""
    hand_over = store.hand_over

    async def away(*_arguments):
        raise ConnectionResetError

    monkeypatch.setattr(store, "hand_over", away)
    with pytest.raises(ConnectionResetError):
        await email.changes.handle([told])
    assert (mailbox.letters, email.published.records) == ([], [])

    monkeypatch.setattr(store, "hand_over", hand_over)
    await email.changes.handle([told])
    assert len(mailbox.letters) == 2
    assert await letters(engine) == {("sent", 1, 0)}


async def test_a_letter_that_may_leave_too_late_leaves_with_its_next_ticket(email, mailbox, engine, told, monkeypatch):
    """The database notes that it leaves, and says so after the conversation's time: nobody waits for that lease to run out."""
    hand_over, answered = store.hand_over, asyncio.Event()

    async def late(tx, claims):
        held = await hand_over(tx, claims)
        await answered.wait()
        return held

    monkeypatch.setattr(store, "hand_over", late)
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 0.3)
    await email.changes.handle([told])
    assert (mailbox.letters, len(email.published.to("email.retry.1s"))) == ([], 2)

    answered.set()
    monkeypatch.undo()
    await email.retries.handle(email.published.incoming("email.retry.1s"))
    assert len(mailbox.letters) == 2
    assert await letters(engine) == {("sent", 1, 0)}


async def test_who_lost_a_letter_calls_no_operator_for_it(email, engine, told):
    """Whoever has it now finds the right address, or calls."""
    await email.changes.handle([told])
    async with engine.begin() as tx:
        await rows(tx, "update letters set state = 'queued', attempts = 0")
        tickets = [messages.LetterTicket(*row) for row in await rows(tx, "select id, booking_id, kind, role from letters")]
    writer = LedgerWriter(engine)
    claimed = await writer.claim(DueLetter(tickets[0], attempt=0, replayed=False, record=told))
    async with engine.begin() as tx:
        await rows(tx, "update letters set claim_token = gen_random_uuid()")

    assert not await writer.dead(claimed, reason="bad_address", answer=None)
    async with engine.begin() as tx:
        assert await rows(tx, "select 1 from attention") == []


async def test_a_letter_that_somebody_took_while_it_was_given_up_is_not_counted_as_dead(email, mailbox, engine, told):
    """Its lease ran out in between: whoever has it now may send it, and a look at it later tells."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550),)))
    publish = email.published.publish

    async def taken_meanwhile(records, **options):
        await publish(records, **options)
        async with engine.begin() as tx:
            await rows(tx, "update letters set claim_token = gen_random_uuid()")

    email.published.publish = taken_meanwhile
    with capture_logs() as lines:
        await email.changes.handle([told])

    assert await letters(engine, "state") == {("sending",)}
    assert len(email.published.to("email.retry.1s")) == 2
    assert [line["event"] for line in lines if line["event"] in {"letter.dead", "letter.deferred"}] == ["letter.deferred"] * 2


async def test_a_batch_sends_the_letters_of_its_own_events_alone(email, engine, told, monkeypatch):
    """Those of the batches before it are done, or have a record of their own."""
    sent, send_all = [], email.sender.send_all

    async def counted(letters):
        sent.append(len(letters))
        await send_all(letters)

    monkeypatch.setattr(email.sender, "send_all", counted)
    await email.changes.handle([told])
    await email.changes.handle([])

    assert sent == [2, 0]


async def test_letters_that_nobody_began_in_time_wait_for_their_batch_to_come_again(email, mailbox, engine, told, monkeypatch):
    """A batch must not seem stuck: what could not begin is left as it was, and costs no attempt."""
    monkeypatch.setattr(sending, "BEGIN_SECONDS_MAX", -1.0)
    with pytest.raises(MailServerSlow):
        await email.changes.handle([told])
    assert (mailbox.letters, await letters(engine)) == ([], {("queued", 0, 0)})

    monkeypatch.undo()
    await email.changes.handle([told])
    assert len(mailbox.letters) == 2


@pytest.mark.parametrize("reason", [MailServerSlow, Stopping])
async def test_letters_behind_others_that_the_server_looks_at_for_long_give_way(
    email, mailbox, engine, told, monkeypatch, reason
):
    """They hold their claims and wait for a connection: too late, or told to stop, they let go of both, and cost no attempt."""
    email.sender._conversations = asyncio.Semaphore(0)
    handling = asyncio.create_task(email.changes.handle([told]))

    async def claimed():
        return await letters(engine, "state") == {("sending",)}

    await until(claimed, "both letters are claimed")
    if reason is Stopping:
        email.stopping.set()
    else:
        late = clock.monotonic() + sending.BEGIN_SECONDS_MAX
        monkeypatch.setattr(clock, "monotonic", lambda: late)
    email.sender._conversations.release()
    with pytest.raises(reason):
        await handling
    assert (mailbox.letters, await letters(engine, "state, attempts, claim_token")) == ([], {("queued", 0, None)})

    monkeypatch.undo()
    email.stopping.clear()
    await email.changes.handle([told])
    assert len(mailbox.letters) == 2


async def test_letters_whose_batch_is_cut_off_are_waited_for_at_the_end(email, mailbox, engine, told, monkeypatch):
    """A stop whose time is up cancels the batch, not the conversations: a 250 that comes by then is recorded."""
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 600)
    monkeypatch.setattr(background, "SETTLE_SECONDS_MAX", 60)
    under_way, go_on, deliver = asyncio.Semaphore(0), asyncio.Event(), email.delivery.deliver

    async def held(letter, *, may_leave):
        under_way.release()
        await go_on.wait()
        return await deliver(letter, may_leave=may_leave)

    email.delivery.deliver = held
    batch = asyncio.create_task(email.changes.handle([told]))
    for _ in range(2):
        await under_way.acquire()
    batch.cancel()
    await asyncio.wait([batch])
    settling = asyncio.create_task(email.sender.settle())
    await asyncio.sleep(0)
    assert not settling.done()

    go_on.set()
    await settling
    assert batch.cancelled()
    assert len(mailbox.letters) == 2
    assert await letters(engine) == {("sent", 1, 0)}


async def test_what_becomes_of_each_letter_is_counted(email, mailbox, engine, told):
    """Refused for now, refused for good, not to be sent any more: by kind, role and end, as the dashboards ask."""

    def counted():
        ends = (("client", "retrying"), ("coach", "dead"), ("client", "suppressed"))
        return [metrics.letters.labels("confirmation", role, end)._value.get() for role, end in ends]

    before = counted()
    [(client,), (coach,)] = await addresses(engine)
    await mailbox.switch(
        Switches(faults=(Fault(at="rcpt", what=450, recipient=client), Fault(at="rcpt", what=550, recipient=coach)))
    )
    await email.changes.handle([told])
    async with engine.begin() as tx:
        await rows(tx, "update bookings set status = 'cancelled'")
    await email.retries.handle(email.published.incoming("email.retry.1s"))

    assert [now - was for now, was in zip(counted(), before, strict=True)] == [1, 1, 1]


async def addresses(engine):
    async with engine.begin() as tx:
        return [tuple(row) for row in await rows(tx, "select email from users order by role::text")]
