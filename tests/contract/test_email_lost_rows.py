"""The ledger loses a letter's row while it is being sent, as when a standby without the last commits takes over."""

import pytest
from structlog.testing import capture_logs

from consumers.email import store
from consumers.email.breaker import MailServerAway
from deploy.dev.mailbox import Fault, Switches
from tests.support.letters import both, event, headers, recipients, sales, sql, states


@pytest.fixture
async def sale(engine):
    return (await sales(engine, 1))[0]


@pytest.fixture
def losing(email, engine, monkeypatch):
    """Let each letter's row vanish before its conversation with the mail server, or right after it."""

    def lose(when):
        deliver = email.delivery.deliver

        async def delivered(letter, *, may_leave):
            if when == "before":
                await sql(engine, "delete from letters where message_id = $1", letter.message_id)
            outcome = await deliver(letter, may_leave=may_leave)
            if when == "after":
                await sql(engine, "delete from letters where message_id = $1", letter.message_id)
            return outcome

        monkeypatch.setattr(email.delivery, "deliver", delivered)

    return lose


def errors(email):
    return [headers(dead)["x-error"] for dead in email.published.to("email.dlt")]


async def test_a_250_of_a_letter_that_the_ledger_has_lost_is_logged_and_over(email, mailbox, engine, sale, losing, monkeypatch):
    """Other letters go on; the same event, published again after the loss, sends the same letters again."""
    losing("after")
    with capture_logs() as lines:
        await email.changes.handle([event(sale)])
    assert recipients(mailbox) == both(sale)
    assert [line["outcome"] for line in lines if line["event"] == "letter.sent"] == ["row_lost"] * 2
    assert await states(engine) == []

    monkeypatch.undo()
    [other] = await sales(engine, 1)
    await email.changes.handle([event(other)])
    await email.changes.handle([event(sale)])
    assert email.published.records == []
    assert len(mailbox.letters) == 6
    assert len({letter.message_id for letter in mailbox.letters}) == 4
    assert {state for _, state, _ in await states(engine)} == {"sent"}


async def test_a_250_that_waits_to_be_recorded_is_over_when_its_row_is_lost(email, mailbox, engine, sale, monkeypatch):
    """PostgreSQL goes away after the 250 and comes back without the row: no later batch fails because of it."""

    async def away(*_arguments):
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(store, "record_sent", away)
        with pytest.raises(ConnectionResetError):
            await email.changes.handle([event(sale)])
        await sql(engine, "delete from letters")

    [other] = await sales(engine, 1)
    await email.changes.handle([event(other)])

    assert len(mailbox.letters) == 4
    assert await states(engine) == [("client", "sent", 1), ("coach", "sent", 1)]


async def test_a_letter_that_is_refused_for_good_after_its_row_was_lost_is_one_dead_letter(
    email, mailbox, engine, sale, losing
):
    """It has no second record, which would become a second dead letter."""
    await mailbox.switch(Switches(faults=(Fault(at="data", what=550),)))
    losing("after")
    await email.changes.handle([event(sale)])

    assert errors(email) == ["smtp_permanent:550 5.0.0"] * 2
    assert len(email.published.records) == 2


async def test_a_letter_that_is_refused_for_now_after_its_row_was_lost_ends_as_a_dead_letter(
    email, mailbox, engine, sale, losing
):
    """Its ticket finds no letter."""
    await mailbox.switch(Switches(faults=(Fault(at="data", what=450),)))
    losing("after")
    await email.changes.handle([event(sale)])
    await email.retries.handle(email.published.incoming("email.retry.1s"))

    assert errors(email) == ["unknown_letter"] * 2
    assert mailbox.letters == []


async def test_a_letter_whose_row_was_lost_before_data_is_not_sent(email, mailbox, engine, sale, losing, monkeypatch):
    """Its event, published again, enters and sends it."""
    losing("before")
    await email.changes.handle([event(sale)])
    await email.retries.handle(email.published.incoming("email.retry.1s"))
    assert (mailbox.letters, errors(email)) == ([], ["unknown_letter"] * 2)

    monkeypatch.undo()
    await email.changes.handle([event(sale)])
    assert recipients(mailbox) == both(sale)


async def test_a_letter_whose_row_was_lost_while_the_mail_server_is_away_waits_for_its_batch(
    email, mailbox, engine, sale, losing, monkeypatch
):
    """There is no claim to give back; the batch that comes again enters the letter anew."""
    await mailbox.switch(Switches(listening=False))
    losing("before")
    with pytest.raises(MailServerAway):
        await email.changes.handle([event(sale)])

    monkeypatch.undo()
    await mailbox.switch(Switches())
    await email.changes.handle([event(sale)])
    assert recipients(mailbox) == both(sale)
    assert email.published.records == []
