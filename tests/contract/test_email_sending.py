"""What a sender does when the world fails in the middle of its batch: on a real database, with a real mail server."""

import pytest

from consumers.email import sending, store
from consumers.email.sending import MailServerSlow
from shared.db.engine import rows
from tests.builders import Sale, confirmed, insert_sales, record


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
    """The database goes away between RCPT and DATA: its error ends the batch, and the letters go out when it comes again."""
    hand_over = store.hand_over

    async def away(*_arguments):
        raise ConnectionResetError

    monkeypatch.setattr(store, "hand_over", away)
    with pytest.raises(ConnectionResetError):
        await email.changes.handle([told])
    assert (mailbox.letters, email.published.records) == ([], [])

    monkeypatch.setattr(store, "hand_over", hand_over)
    async with engine.begin() as tx:
        await rows(tx, "update letters set lease_until = now() - interval '1 second'")
    await email.changes.handle([told])
    assert len(mailbox.letters) == 2
    assert await letters(engine) == {("sent", 1, 0)}


async def test_letters_that_nobody_began_in_time_wait_for_their_batch_to_come_again(email, mailbox, engine, told, monkeypatch):
    """A batch must not seem stuck: what could not begin is left as it was, and costs no attempt."""
    monkeypatch.setattr(sending, "BEGIN_SECONDS_MAX", -1.0)
    with pytest.raises(MailServerSlow):
        await email.changes.handle([told])
    assert (mailbox.letters, await letters(engine)) == ([], {("queued", 0, 0)})

    monkeypatch.undo()
    await email.changes.handle([told])
    assert len(mailbox.letters) == 2
