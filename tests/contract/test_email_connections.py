"""Connections to the mail server: reached at any address, kept while they serve, replaced once they do not, bounded in time."""

import asyncio
import socket
from contextlib import ExitStack

from consumers.email.delivery import Delivery
from consumers.email.outcomes import Accepted, ServerTrouble
from deploy.dev.mailbox import Fault, Switches
from tests.support.mail import a_letter, deliver, smtp
from tests.support.waiting import until


async def test_connections_are_kept_and_shared(mailbox, delivery):
    """Letters one after another use one connection; letters at once use one each, and no more later."""
    for number in range(5):
        await deliver(delivery, a_letter(number))
    assert mailbox.connections_total == 1

    await asyncio.gather(*(deliver(delivery, a_letter(number)) for number in range(4)))
    await asyncio.gather(*(deliver(delivery, a_letter(number)) for number in range(4)))
    assert mailbox.connections_total == 4
    assert len(mailbox.letters) == 13


async def test_a_connection_that_was_idle_for_long_is_replaced(mailbox, delivery, monkeypatch):
    """Servers close it soon, perhaps in the moment in which the next letter comes."""
    await deliver(delivery, a_letter(1))
    monkeypatch.setattr("consumers.email.delivery.IDLE_SECONDS_MAX", 0.0)
    await deliver(delivery, a_letter(2))

    assert (len(mailbox.letters), mailbox.connections_total) == (2, 2)
    await until(lambda: len(mailbox.conversations) == 1, "the one that was idle has ended")


async def test_a_connection_that_has_carried_its_letters_is_replaced(mailbox, delivery, monkeypatch):
    """Servers end a session after so many, and the letter under way would climb for it."""
    monkeypatch.setattr("consumers.email.delivery.LETTERS_PER_CONNECTION_MAX", 2)
    for number in range(5):
        await deliver(delivery, a_letter(number))

    assert (len(mailbox.letters), mailbox.connections_total) == (5, 3)


async def test_a_dead_address_of_several_costs_a_moment(mailbox, monkeypatch):
    """It swallows what it is sent, as a broken IPv6 does: the next address is tried beside it, and well before any deadline."""
    with ExitStack() as opened:
        dead = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # the system drops who comes when the queue of those nobody accepts is full
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the standard library's
            waiting.connect_ex(dead.getsockname())
        addresses = [dead.getsockname(), ("127.0.0.1", mailbox.smtp_port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_named: found)
        monkeypatch.setattr("consumers.email.delivery.CONNECT_SECONDS_MAX", 3.0)
        delivery = Delivery(smtp(mailbox))

        assert await deliver(delivery, a_letter()) == Accepted("250")
        await delivery.close()


async def test_a_server_that_greets_late_is_waited_for(mailbox, delivery, monkeypatch):
    """It looks up who we are, or tries our patience on purpose: all that a new connection hears has the conversation's time."""
    for short in ("CONNECT_SECONDS_MAX", "KEPT_SECONDS_MAX"):
        monkeypatch.setattr(f"consumers.email.delivery.{short}", 0.4)
    await mailbox.switch(Switches(delay_seconds=0.5))

    assert await deliver(delivery, a_letter()) == Accepted("250")


async def test_a_stale_connection_blames_nobody(mailbox, delivery):
    """A kept connection that the server has closed meanwhile is replaced, and the letter goes out."""
    await deliver(delivery, a_letter(1))
    await mailbox.switch(Switches(listening=False))
    await mailbox.switch(Switches())

    assert await deliver(delivery, a_letter(2)) == Accepted("250")


async def test_a_kept_connection_that_is_turned_away_is_replaced(mailbox, delivery):
    """421 to MAIL FROM upon a kept connection is how servers end long sessions."""
    await deliver(delivery, a_letter(1))
    await mailbox.switch(Switches(faults=(Fault(at="mail", what=421, times=1),)))

    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 2


async def test_a_server_that_says_nothing_is_given_up_in_time(mailbox, delivery, monkeypatch):
    """The whole conversation is bounded; before RCPT the silence judges the server, after it the letter."""
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 0.5)
    await deliver(delivery, a_letter(1))
    await mailbox.switch(Switches(delay_seconds=30))
    assert isinstance(await deliver(delivery, a_letter(2)), ServerTrouble)

    await mailbox.switch(Switches(delay_seconds=0.2))
    assert await deliver(delivery, a_letter(3)) == ServerTrouble("it does not answer in time")


async def test_the_time_that_a_kept_connection_took_is_the_letters(mailbox, delivery, monkeypatch):
    """It has one time, however many connections: the claim's lease runs out soon after, and another would send it as well."""
    await deliver(delivery, a_letter(1))
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 0.2)
    await mailbox.switch(Switches(faults=(Fault(at="mail", what="hang", times=1),)))

    assert await deliver(delivery, a_letter(2)) == ServerTrouble("it does not answer in time")
    assert [letter.message_id for letter in mailbox.letters] == ["<1@example.org>"]


async def test_an_answer_byte_by_byte_is_still_an_answer(mailbox, delivery):
    """A slow server is no broken one."""
    await mailbox.switch(Switches(delay_seconds=0.002, byte_by_byte=True))

    assert await deliver(delivery, a_letter()) == Accepted("250")


async def test_a_cancelled_conversation_leaves_no_connection_behind(mailbox, delivery):
    """Whoever is stopped in the middle of a conversation never hands its connection to the next letter."""
    await mailbox.switch(Switches(delay_seconds=30))
    task = asyncio.create_task(deliver(delivery, a_letter(1)))
    await until(lambda: mailbox.conversations, "a conversation begins")
    async with asyncio.timeout(10):
        while not task.done():
            # Python 3.11's wait_for loses a cancellation that comes in the very moment in which it has connected.
            task.cancel()
            await asyncio.sleep(0.01)
    assert task.cancelled()
    await until(lambda: not mailbox.conversations, "it has ended at the server, too")

    await mailbox.switch(Switches())
    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 2
