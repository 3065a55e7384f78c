"""Who vanished says nothing, who stood still finds his time over, who is out of files can do nothing: no letter pays for it."""

import asyncio
import errno
import os
import socket
import threading
import time

import pytest
from aiosmtplib.protocol import SMTPProtocol

from consumers.email import sending
from consumers.email.delivery import Delivery
from consumers.email.outcomes import Accepted, LetterRefused, ServerTrouble
from deploy.dev.mailbox import Fault, Switches
from deploy.dev.mailbox.smtp import Conversation
from tests.support.letters import both, event, recipients, states
from tests.support.mail import a_letter, deliver, smtp
from tests.support.waiting import until


async def test_a_kept_connection_that_ended_without_a_word_costs_a_moment(mailbox, monkeypatch):
    """A firewall forgot it, and nobody hears: the letter goes out on a new one, and the server is not called away."""
    monkeypatch.setattr("consumers.email.delivery.KEPT_SECONDS_MAX", 0.2)
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 2.0)
    delivery = Delivery(smtp(mailbox))
    await deliver(delivery, a_letter(1))
    await mailbox.switch(Switches(faults=(Fault(at="mail", what="hang", times=1),)))

    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 2
    await delivery.close()


class Answering:
    """A mail server in a thread of its own, which goes on while our event loop stands still."""

    def __init__(self):
        self.has_it, self.may_answer, self.answered = threading.Event(), threading.Event(), threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.smtp_port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        connection, _ = self._listening.accept()
        with self._listening, connection, connection.makefile("rwb", buffering=0) as talk:
            talk.write(b"220 well\r\n")
            for line in talk:
                if line == b".\r\n":
                    self.has_it.set()
                    self.may_answer.wait()
                    talk.write(b"250 taken\r\n")
                    self.answered.set()
                elif line.startswith(b"DATA"):
                    talk.write(b"354 go on\r\n")
                elif line.startswith((b"EHLO", b"MAIL", b"RCPT", b"QUIT")):
                    talk.write(b"250 ok\r\n")


async def test_an_answer_that_comes_at_once_is_heard(monkeypatch):
    """Before the loop turns: it must be listened for by the time the dot is written, or the library throws it away."""
    monkeypatch.setattr("consumers.email.delivery.DOT_SECONDS_MAX", 1.0)
    server = Answering()
    server.may_answer.set()
    write = SMTPProtocol.write

    def writes(protocol, data):
        write(protocol, data)
        if data.endswith(b"\r\n.\r\n"):
            server.answered.wait()
            with socket.socket(fileno=os.dup(protocol.transport.get_extra_info("socket").fileno())) as same:
                protocol.data_received(same.recv(4096))

    monkeypatch.setattr(SMTPProtocol, "write", writes)
    delivery = Delivery(smtp(server, smtp_host="127.0.0.1"))

    assert await deliver(delivery, a_letter()) == Accepted("250")
    await delivery.close()


async def test_an_answer_that_came_while_we_stood_still_is_heard(monkeypatch):
    """The process was stopped for longer than it waits for the dot's answer: the 250 lies there, and nothing goes out twice.

    Whom a signal interrupted may look at timers before connections, as libuv does.
    """
    monkeypatch.setattr("consumers.email.delivery.DOT_SECONDS_MAX", 1.5)
    selector, missed = asyncio.get_running_loop()._selector, []
    select = selector.select
    monkeypatch.setattr(selector, "select", lambda timeout=None: missed.pop() if missed else select(timeout))
    server = Answering()
    delivery = Delivery(smtp(server, smtp_host="127.0.0.1"))
    delivering = asyncio.create_task(deliver(delivery, a_letter()))
    await until(server.has_it.is_set, "the server has the letter")
    server.may_answer.set()
    server.answered.wait()
    time.sleep(1.5)  # noqa: ASYNC251 - as if stopped: this is the fault
    missed.append([])

    assert await delivering == Accepted("250")
    await delivery.close()


async def test_a_process_that_stood_still_beyond_its_time_sends_nothing_when_it_wakes(mailbox, delivery, monkeypatch):
    """It finds the server's consent and its own deadline at once; meanwhile its lease ran out, and another sent the letter."""
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 2.0)
    push = Conversation.push

    async def consents(conversation, status):
        await push(conversation, status)
        if status.startswith("354"):
            time.sleep(2.1)  # noqa: ASYNC251 - the whole process stands still

    monkeypatch.setattr(Conversation, "push", consents)
    lost = LetterRefused(None, permanent=False, answer="connection_lost_before_dot")
    assert await deliver(delivery, a_letter()) == lost
    await until(lambda: not mailbox.conversations, "the mailbox has heard all that was said")
    assert mailbox.letters == []


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "its name cannot be looked up: Temporary"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "it cannot be reached: EHOSTUNREACH"),
        (OSError(errno.EMFILE, "Too many open files"), "it cannot be reached: EMFILE"),
    ],
)
async def test_a_server_that_cannot_be_asked_is_told_by_the_reason(mailbox, monkeypatch, raised, told):
    """A resolver that is away, a route that is gone, no file left: each is mended elsewhere."""

    def fails(*_arguments, **_named):
        raise raised

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    outcome = await deliver(Delivery(smtp(mailbox)), a_letter())

    assert isinstance(outcome, ServerTrouble)
    assert outcome.reason.startswith(told)


@pytest.mark.parametrize("want", [OSError(errno.EMFILE, "Too many open files"), MemoryError()], ids=["files", "memory"])
async def test_what_the_machine_lacks_for_writing_a_letter_is_not_the_letter_s_fault(
    email, mailbox, engine, sale, monkeypatch, want
):
    """A time zone's rules are read from a file: the letter waits where it is, and goes out once the machine is well."""

    def writes_none(*_arguments, **_named):
        raise want

    with monkeypatch.context() as short:
        short.setattr(sending, "compose", writes_none)
        with pytest.raises(type(want)):
            await email.changes.handle([event(sale)])
    assert (email.published.records, {row[1:] for row in await states(engine)}) == ([], {("queued", 0)})

    await email.changes.handle([event(sale)])
    assert recipients(mailbox) == both(sale)
