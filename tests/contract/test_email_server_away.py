"""The mail server is away, or one recipient's is slow: everybody else's letters go out, once, and nobody's is lost."""

import asyncio

import pytest

from consumers.email import sending
from consumers.email.breaker import MailServerAway
from deploy.dev.mailbox import Fault, Switches
from shared import errors
from tests.support.letters import address, both, counted_as_sent, event, headers, recipients, sales, sql, states
from tests.support.waiting import until


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


async def test_a_server_that_refuses_a_letter_is_back(email, mailbox, engine):
    """Whoever judges is there: the breaker closes as for a letter that was accepted, and nobody waits any more."""
    [sale] = await sales(engine, 1)
    await mailbox.switch(Switches(listening=False))
    with pytest.raises(MailServerAway):
        await email.changes.handle([event(sale)])

    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550),)))
    await email.changes.handle([event(sale)])
    assert email.breaker.reason is None
    assert {row[1] for row in await states(engine)} == {"dead"}
    assert await sql(engine, "select 1 from attention") == []  # it was judged: nothing of ours is wrong


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


async def test_letters_that_are_always_told_421_stop_nobody_else(email, mailbox, engine):
    """They trip the breaker, and those behind them are tried before them: then it was not the server, and these climb alone."""
    bad, good = await sales(engine, 2)
    await mailbox.switch(Switches(faults=tuple(Fault(at="rcpt", what=421, recipient=one) for one in both(bad))))
    with pytest.raises(MailServerAway):
        await email.changes.handle([event(bad)])
    assert (recipients(mailbox), await states(engine, "attempts")) == ([], [(0,), (0,)])

    await email.changes.handle([event(bad), event(good)])
    assert recipients(mailbox) == both(good)
    assert [headers(ticket)["x-error"] for ticket in email.published.to("email.retry.1s")] == ["smtp_transient:421 4.0.0"] * 2
    assert email.breaker.reason is None


async def test_a_recipient_whose_server_hangs_holds_up_nobody(email, mailbox, engine, monkeypatch):
    """All others arrive, the batch is let go with a ticket for the slow one, which ends by itself under its lease."""
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 2.0)
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
    assert not email.sender._background._tasks
    [climbing] = [r for r in email.published.incoming("email.retry.1s") if headers(r)["x-attempt"] == "1"]
    await email.retries.handle([ticket, climbing])
    assert recipients(mailbox).count(slow) == 1


@pytest.fixture
def goes_on(monkeypatch):
    """Whether a batch is still at hand after many looks at its letters, each slow from its conversation's beginning.

    Until it is asked, and afterwards, no conversation is slow, however slow the machine is.
    """
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 3600.0)

    async def looked(batch):
        with monkeypatch.context() as impatient:
            impatient.setattr(sending, "PATIENCE_SECONDS", 0.0)
            impatient.setattr(sending, "LOOK_EVERY_SECONDS", 0.01)
            done, _ = await asyncio.wait({batch}, timeout=0.2)
        return not done

    return looked


def hang_up(mailbox, count=None):
    for conversation in list(mailbox.conversations)[:count]:
        conversation.abort()


async def test_a_letter_that_waits_for_its_turn_is_not_slow(email, mailbox, engine, goes_on, monkeypatch):
    """Ten hang and two wait: the batch waits with them. Once these two are out, it is let go with tickets for the others."""
    made = await sales(engine, 6)
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="hang", times=sending.LETTERS_AT_ONCE_MAX),)))
    batch = asyncio.create_task(email.changes.handle([event(sale) for sale in made]))
    await until(lambda: not mailbox.switches.faults, "ten hang")
    assert await goes_on(batch)
    assert email.published.records == []

    sent = counted_as_sent()
    hang_up(mailbox, 1)
    await until(lambda: counted_as_sent() == sent + 2, "the two that waited are out")
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 0.0)
    await batch
    assert len(recipients(mailbox)) == 2
    tickets = email.published.incoming("email.retry.1s")
    assert sorted(headers(ticket)["x-attempt"] for ticket in tickets) == ["0"] * 9 + ["1"]
    hang_up(mailbox)
    await email.sender.settle()


async def test_while_the_server_is_away_no_letter_is_let_go_as_slow(email, mailbox, engine, goes_on):
    """The batch is to be rewound whole: what still hangs is waited for, and then it is told that the server is away."""
    hanging, told_421 = await sales(engine, 2)
    hang, away = ([Fault(at="rcpt", what=w, recipient=one) for one in both(s)] for s, w in ((hanging, "hang"), (told_421, 421)))
    await mailbox.switch(Switches(faults=(*hang, *away)))
    batch = asyncio.create_task(email.changes.handle([event(hanging), event(told_421)]))
    await until(lambda: email.breaker.trips == 2, "the server is away")
    assert await goes_on(batch)

    hang_up(mailbox)
    with pytest.raises(MailServerAway):
        await batch


async def test_no_more_letters_are_claimed_than_are_soon_begun(email, mailbox, engine, goes_on):
    """A lease is no place to wait in: beyond so many in hand the others stay free for whoever comes."""
    made = await sales(engine, sending.LETTERS_IN_HAND_MAX)
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="hang"),)))
    batch = asyncio.create_task(email.changes.handle([event(sale) for sale in made]))

    async def in_hand():
        return len([one for one in await states(engine, "role, state") if one[1] == "sending"])

    async def enough():
        return await in_hand() >= sending.LETTERS_IN_HAND_MAX

    await until(enough, "as many as may be are in hand")
    assert await goes_on(batch)
    assert await in_hand() == sending.LETTERS_IN_HAND_MAX

    email.stopping.set()
    hang_up(mailbox)
    with pytest.raises(errors.Transient):
        await batch
    assert await in_hand() == 0
