"""What a mail server's answers mean, against a real one on real sockets with every way of failing switched on."""

import asyncio

import pytest

from consumers.email.outcomes import Accepted, LetterRefused, NotHandedOver, ServerTrouble
from deploy.dev.mailbox import Fault, Switches
from deploy.dev.mailbox.smtp import Conversation
from tests.support.mail import a_letter, deliver


async def test_a_letter_arrives_byte_for_byte(mailbox, delivery):
    """250 is Accepted; dots at line starts are stuffed and come out as they were."""
    letter = a_letter()

    assert await deliver(delivery, letter) == Accepted("250")
    (kept,) = mailbox.letters
    assert mailbox.store.raw(kept.id) == letter.content
    assert (kept.sender, kept.to) == ("noreply@example.org", ["ada@example.org"])


@pytest.mark.parametrize("at", ["rcpt", "data"])
@pytest.mark.parametrize("code", [400, 450, 500, 599])
async def test_rcpt_and_data_judge_the_letter(mailbox, delivery, at, code):
    """Their 4xx is a refusal for now, their 5xx for good; the connection stays, and the letters around it are unharmed."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=code, recipient="bad@example.org"),)))

    assert await deliver(delivery, a_letter(1)) == Accepted("250")
    refused = await deliver(delivery, a_letter(2, "bad@example.org"))
    assert refused == LetterRefused(code, permanent=code >= 500, answer=f"{code} {code // 100}.0.0")
    assert await deliver(delivery, a_letter(3)) == Accepted("250")
    assert mailbox.connections_total == 1
    assert [letter.message_id for letter in mailbox.letters] == ["<1@example.org>", "<3@example.org>"]


def answers_once(monkeypatch, command, answer):
    """Let the mail server answer a command out of turn: with this line, or with the end of the connection; later as ever."""
    usual, answers = getattr(Conversation, f"smtp_{command}"), [answer]

    async def odd(conversation, argument):
        if not answers:
            await usual(conversation, argument)
        elif (line := answers.pop()) is None:
            await conversation.cut()
        else:
            await conversation.push(line)

    monkeypatch.setattr(Conversation, f"smtp_{command}", odd)


@pytest.mark.parametrize("code", [451, 554])
async def test_a_server_that_does_not_want_the_letter_gets_no_line_of_it(mailbox, delivery, monkeypatch, code):
    """Refused at DATA itself: what follows would be read as commands. The letter is judged, and the connection goes on."""
    answers_once(monkeypatch, "DATA", f"{code} not now")

    assert await deliver(delivery, a_letter(1)) == LetterRefused(code, permanent=code >= 500, answer=str(code))
    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert ([letter.message_id for letter in mailbox.letters], mailbox.connections_total) == (["<2@example.org>"], 1)


async def test_a_connection_lost_at_data_itself_judges_the_letter(mailbox, delivery, monkeypatch):
    """It may leave, and nothing of it did: as at RCPT, and as there the server's is the second of two in a row."""
    answers_once(monkeypatch, "DATA", None)
    assert await deliver(delivery, a_letter(1)) == LetterRefused(None, permanent=False, answer="connection_lost_before_dot")

    answers_once(monkeypatch, "DATA", None)
    assert isinstance(await deliver(delivery, a_letter(2)), ServerTrouble)
    assert mailbox.letters == []


@pytest.mark.parametrize("answer", ["251 will forward", "252 cannot say, will try"])
async def test_every_yes_to_a_recipient_is_one(mailbox, delivery, monkeypatch, answer):
    """The first digit decides, whatever follows it: a relay that cannot verify says 252, and takes the letter."""
    usual = Conversation.push

    async def odd(conversation, status):
        await usual(conversation, answer if conversation.envelope.rcpt_tos and status == "250 OK" else status)

    monkeypatch.setattr(Conversation, "push", odd)

    assert [await deliver(delivery, a_letter(number)) for number in (1, 2)] == [Accepted("250"), Accepted("250")]
    assert (len(mailbox.letters), mailbox.connections_total) == (2, 1)


@pytest.mark.parametrize(("command", "answer"), [("RCPT", "354 what?"), ("RCPT", "600 what?"), ("DATA", "250 what?")])
async def test_an_answer_that_means_nothing_is_a_refusal_for_now(mailbox, delivery, monkeypatch, command, answer):
    """Neither taken nor refused: nobody buries a letter for it, and nobody goes on with whoever says such things."""
    answers_once(monkeypatch, command, answer)

    assert await deliver(delivery, a_letter(1)) == LetterRefused(None, permanent=False, answer="unintelligible_before_dot")
    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 2


def answers_the_dot(monkeypatch, answer, *, after_seconds=0.0):
    """Let the mail server take a whole letter before it answers with this line, and keep nothing."""

    async def odd(conversation, _argument):
        await conversation.push("354 go on")
        while await conversation._reader.readline() != b".\r\n":
            pass
        await asyncio.sleep(after_seconds)
        await conversation.push(answer)

    monkeypatch.setattr(Conversation, "smtp_DATA", odd)


@pytest.mark.parametrize("answer", ["taken", "354 go on", "\r\n".join(["250-" + "x" * 500] * 100 + ["250 ok"])])
async def test_an_answer_to_the_dot_that_nobody_understands_may_have_been_a_yes(delivery, monkeypatch, answer):
    """Even a 250 is one where its words are longer than we read: the record says that the letter may have been accepted."""
    answers_the_dot(monkeypatch, answer)

    refused = LetterRefused(None, permanent=False, answer="unintelligible_after_dot")
    assert [await deliver(delivery, a_letter(number)) for number in (1, 2)] == [refused, refused]


async def test_a_server_that_looks_at_the_letter_for_long_is_waited_for(delivery, monkeypatch):
    """It has the letter: giving up on its answer would send it again. The dot has a patience of its own."""
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 0.5)
    answers_the_dot(monkeypatch, "250 ok", after_seconds=0.6)
    assert await deliver(delivery, a_letter(1)) == Accepted("250")

    monkeypatch.setattr("consumers.email.delivery.DOT_SECONDS_MAX", 0.1)
    assert await deliver(delivery, a_letter(2)) == LetterRefused(None, permanent=False, answer="connection_lost_after_dot")


@pytest.mark.parametrize("answer", ["500 what?", None], ids=["no", "the end"])
async def test_a_connection_that_cannot_go_on_after_a_refusal_is_replaced(mailbox, delivery, monkeypatch, answer):
    """RSET only makes it ready for the next letter: the judgement of this one stands, whatever it says."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient="bad@example.org"),)))
    answers_once(monkeypatch, "RSET", answer)

    assert await deliver(delivery, a_letter(1, "bad@example.org")) == LetterRefused(550, permanent=True, answer="550 5.0.0")
    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 2


PLACES = {"connect": "connecting", "ehlo": "EHLO", "mail": "MAIL FROM", "rcpt": "RCPT TO", "data": "DATA"}


@pytest.mark.parametrize(("at", "place"), PLACES.items())
async def test_421_judges_the_server_wherever_it_comes(mailbox, delivery, at, place):
    """The service is closing: no letter is to blame."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=421),)))

    outcome = await deliver(delivery, a_letter())
    assert isinstance(outcome, ServerTrouble)
    assert outcome.reason.startswith(f"{place} was answered 421")


@pytest.mark.parametrize("at", ["mail", "rcpt", "data"])
async def test_421_on_a_connection_that_was_kept_is_no_answer_yet(mailbox, delivery, at):
    """A server may close what it kept for long, and says so at the next word: a new connection tells what it means."""
    assert await deliver(delivery, a_letter(1)) == Accepted("250")
    await mailbox.switch(Switches(faults=(Fault(at=at, what=421, times=1),)))

    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert (len(mailbox.letters), mailbox.connections_total) == (2, 2)


@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_421_for_one_letter_alone_judges_the_letter(mailbox, delivery, at):
    """Again 421 though the server judged another in between: it is that letter, and each such attempt needs its own proof."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=421, recipient="bad@example.org"),)))

    for _ in range(2):
        assert isinstance(await deliver(delivery, a_letter(1, "bad@example.org")), ServerTrouble)
        assert isinstance(await deliver(delivery, a_letter(2, "bad@example.org")), ServerTrouble)
    assert await deliver(delivery, a_letter(3)) == Accepted("250")
    refused = LetterRefused(421, permanent=False, answer="421 4.0.0")
    assert [await deliver(delivery, a_letter(number, "bad@example.org")) for number in (1, 2)] == [refused, refused]
    assert isinstance(await deliver(delivery, a_letter(1, "bad@example.org")), ServerTrouble)


@pytest.mark.parametrize(("at", "code"), [("connect", 554), ("mail", 451), ("mail", 550)])
async def test_what_comes_before_rcpt_judges_the_server(mailbox, delivery, at, code):
    """Banner and MAIL FROM say nothing about the recipient, whatever their code; and nobody goes on with such a connection."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=code),)))

    outcome = await deliver(delivery, a_letter(1))
    assert isinstance(outcome, ServerTrouble)
    assert str(code) in outcome.reason
    await mailbox.switch(Switches())
    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 2


@pytest.mark.parametrize("command", ["EHLO", "MAIL"])
async def test_an_answer_that_is_no_smtp_is_called_that(delivery, monkeypatch, command):
    """And not a step that nobody took: here nothing is encrypted."""
    answers_once(monkeypatch, command, "* BAD what?")

    assert await deliver(delivery, a_letter()) == ServerTrouble("what it answers is no SMTP")


async def test_a_server_of_another_kind_is_called_that(delivery, monkeypatch):
    """A port was mistaken for another: the operator hears so, before anything was said."""
    usual = Conversation.push
    monkeypatch.setattr(Conversation, "push", lambda conversation, _status: usual(conversation, "* OK IMAP4rev1 ready"))

    assert await deliver(delivery, a_letter()) == ServerTrouble("what it answers is no SMTP")


@pytest.mark.parametrize("at", ["connect", "ehlo", "mail"])
async def test_a_connection_lost_before_rcpt_judges_the_server(mailbox, delivery, at):
    """Cut before any recipient was named."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what="cut"),)))

    assert isinstance(await deliver(delivery, a_letter()), ServerTrouble)


async def test_nobody_listening_is_the_servers_trouble(mailbox, delivery):
    """Connection refused; and when the door opens again the next letter goes out."""
    await mailbox.switch(Switches(listening=False))
    outcome = await deliver(delivery, a_letter())
    assert outcome == ServerTrouble("it cannot be reached: ConnectionRefusedError")

    await mailbox.switch(Switches())
    assert await deliver(delivery, a_letter()) == Accepted("250")


@pytest.mark.parametrize(
    ("at", "what", "answer", "kept"),
    [
        ("rcpt", "cut", "connection_lost_before_dot", 0),
        ("data", "cut", "connection_lost_after_dot", 0),
        ("data", "accept_then_cut", "connection_lost_after_dot", 1),
    ],
)
async def test_a_connection_lost_after_rcpt_judges_the_letter(mailbox, delivery, at, what, answer, kept):
    """As a 4xx would; after the final dot nobody can say whether the letter was taken, and the record says so."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=what),)))

    assert await deliver(delivery, a_letter()) == LetterRefused(None, permanent=False, answer=answer)
    assert len(mailbox.letters) == kept


async def test_two_different_letters_that_lose_it_before_the_dot_judge_the_server(mailbox, delivery):
    """One letter may break a connection; another right after it means that the server breaks them."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="cut"),)))

    assert isinstance(await deliver(delivery, a_letter(1)), LetterRefused)
    assert isinstance(await deliver(delivery, a_letter(1)), LetterRefused)
    assert isinstance(await deliver(delivery, a_letter(2)), ServerTrouble)


async def test_an_answer_between_two_losses_takes_the_blame_from_the_server(mailbox, delivery):
    """The rule of two counts only losses in a row."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what="cut", recipient="bad@example.org"),)))

    assert isinstance(await deliver(delivery, a_letter(1, "bad@example.org")), LetterRefused)
    assert isinstance(await deliver(delivery, a_letter(2)), Accepted)
    assert isinstance(await deliver(delivery, a_letter(3, "bad@example.org")), LetterRefused)


async def test_a_letter_that_may_not_leave_is_withheld_before_data(mailbox, delivery):
    """Asked after the recipient was accepted: upon a no the server has nothing, and the connection serves the next letter."""
    asked = []

    async def no():
        asked.append(len(mailbox.letters))
        return False

    assert await deliver(delivery, a_letter(1), may_leave=no) == NotHandedOver()
    assert (asked, mailbox.letters) == ([0], [])
    assert await deliver(delivery, a_letter(2)) == Accepted("250")
    assert mailbox.connections_total == 1


async def test_whoever_does_not_say_in_time_whether_a_letter_may_leave_blames_neither_letter_nor_server(
    mailbox, delivery, monkeypatch
):
    """A database that stands still is no refusal: nothing was handed over, and nothing climbs."""
    monkeypatch.setattr("consumers.email.delivery.CONVERSATION_SECONDS_MAX", 1.0)

    assert await deliver(delivery, a_letter(), may_leave=asyncio.Event().wait) == NotHandedOver()
    assert mailbox.letters == []


async def test_a_recipient_that_is_refused_is_not_asked_about(mailbox, delivery):
    """Nothing begins, so nothing is noted as begun."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=450),)))

    async def never():
        raise AssertionError("asked")

    assert isinstance(await deliver(delivery, a_letter(), may_leave=never), LetterRefused)
