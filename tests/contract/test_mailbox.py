"""The mailbox is a real mail server on real sockets: what it accepts it shows, and each switch does what it says."""

import asyncio
import signal
import smtplib
import socket
import sys
from email.message import EmailMessage

import aiohttp
import aiosmtplib
import pytest

from deploy.dev.mailbox import Fault, Switches, open_mailbox


def a_letter(to="ada@example.org", subject="Hello", message_id="<1@example.org>"):
    letter = EmailMessage()
    letter["From"] = "Sender <sender@example.org>"
    letter["To"] = to
    letter["Subject"] = subject
    letter["Message-ID"] = message_id
    letter.set_content("Plain words\n.a line with a dot\n")
    letter.add_alternative("<p>Rich <b>words</b></p>", subtype="html")
    return letter


@pytest.fixture
async def mailbox(tmp_path):
    async with open_mailbox(tmp_path / "letters") as box:
        yield box


async def send(box, letter=None, to="ada@example.org"):
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=box.smtp_port, local_hostname="test", timeout=5) as client:
        return await client.sendmail("sender@example.org", [to], (letter or a_letter(to)).as_bytes())


async def test_an_accepted_letter_is_shown_whole(mailbox):
    """What went in over SMTP comes out as JSON: envelope, headers, both bodies."""
    await send(mailbox, a_letter(subject="Grüße"))

    async with aiohttp.ClientSession(mailbox.http_url) as http, http.get("/api/letters") as answer:
        (shown,) = await answer.json()
    assert (shown["from"], shown["to"]) == ("sender@example.org", ["ada@example.org"])
    assert (shown["subject"], shown["message_id"]) == ("Grüße", "<1@example.org>")
    assert shown["text"].replace("\r\n", "\n") == "Plain words\n.a line with a dot\n"
    assert "<b>words</b>" in shown["html"]
    assert ["From", "Sender <sender@example.org>"] in shown["headers"]
    assert shown["attachments"] == []
    assert shown["id"]
    assert shown["received_at"].endswith("Z")


async def test_attachments_are_listed(mailbox):
    """An attached file shows with its name, type and size."""
    letter = a_letter()
    letter.add_attachment(b"BEGIN:VCALENDAR", maintype="text", subtype="calendar", filename="invite.ics")
    await send(mailbox, letter)

    (shown,) = mailbox.letters
    assert [(a.filename, a.content_type, a.size_bytes) for a in shown.attachments] == [("invite.ics", "text/calendar", 15)]


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: text/plain; charset=utf-7\r\n\r\n+2AA-",
        b"Content-Type: text/plain; charset=undefined\r\n\r\nwords",
        b'Content-Type: text/plain; charset="utf-8\x00"\r\n\r\nwords',
        b"Message-ID: <>\r\n\r\nwords",
        b"Cc: a@[\r\n\r\nwords",
    ],
)
async def test_a_letter_that_cannot_be_read_hides_no_other(mailbox, raw):
    """It is shown as it came, and so are those before and after it."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.smtp_port, local_hostname="test", timeout=5) as client:
        for content in (a_letter().as_bytes(), raw, a_letter().as_bytes()):
            await client.sendmail("sender@example.org", ["ada@example.org"], content)

    async with aiohttp.ClientSession(mailbox.http_url) as http, http.get("/api/letters") as answer:
        shown = await answer.json()
    assert [letter["subject"] for letter in shown] == ["Hello", "(cannot be read)", "Hello"]
    assert shown[1]["text"].replace("\r\n", "\n").strip() == raw.decode().replace("\r\n", "\n")


async def test_delete_forgets_all(mailbox):
    """DELETE empties the mailbox, and the next letter is listed alone."""
    await send(mailbox)
    async with aiohttp.ClientSession(mailbox.http_url) as http:
        async with http.delete("/api/letters") as answer:
            assert await answer.json() == {"deleted": 1}
        await send(mailbox, a_letter(subject="Second"))
        async with http.get("/api/letters") as answer:
            assert [letter["subject"] for letter in await answer.json()] == ["Second"]


async def test_letters_survive_a_restart(tmp_path):
    """A mailbox opened again upon the same directory still has its letters, and new ones come after them."""
    async with open_mailbox(tmp_path) as box:
        await send(box, a_letter(subject="Before"))
    async with open_mailbox(tmp_path) as box:
        await send(box, a_letter(subject="After"))

        assert [letter.subject for letter in box.letters] == ["Before", "After"]


async def test_the_page_keeps_a_letters_html_in_its_cage(mailbox):
    """The page allows no foreign script, and a letter's HTML is served so that it can do nothing."""
    await send(mailbox)
    (letter,) = mailbox.letters
    async with aiohttp.ClientSession(mailbox.http_url) as http:
        async with http.get("/") as page:
            assert page.status == 200
            assert "<iframe" in (text := await page.text())
            assert "sandbox" in text
            assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        async with http.get(f"/letters/{letter.id}.html") as html:
            assert html.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        async with http.get(f"/letters/{letter.id}.eml") as source:
            assert (await source.read()).startswith(b"From: Sender")
        async with http.get("/letters/../../etc/passwd.eml") as nothing:
            assert nothing.status == 404


@pytest.mark.parametrize(("at", "code"), [("rcpt", 450), ("rcpt", 550), ("data", 452), ("data", 554)])
async def test_answers_can_be_refusals(mailbox, at, code):
    """RCPT and DATA answer what is switched on, and no letter is kept."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what=code),)))

    with pytest.raises((aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPDataError)) as refused:
        await send(mailbox)
    fault = refused.value
    assert code == (fault.recipients[0].code if at == "rcpt" else fault.code)
    assert mailbox.letters == []


async def test_only_one_recipient_is_refused(mailbox):
    """A fault for one address leaves the others alone."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient="Bad@example.org"),)))

    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await send(mailbox, to="bad@example.org")
    await send(mailbox, to="good@example.org")

    assert [letter.to for letter in mailbox.letters] == [["good@example.org"]]


async def test_a_fault_can_run_out(mailbox):
    """With `times` a fault happens so often and then no more."""
    await mailbox.switch(Switches(faults=(Fault(at="data", what=450, times=2),)))

    for _ in range(2):
        with pytest.raises(aiosmtplib.SMTPDataError):
            await send(mailbox)
    await send(mailbox)

    assert len(mailbox.letters) == 1
    assert mailbox.switches.faults == ()


@pytest.mark.parametrize(("what", "kept"), [("cut", 0), ("accept_then_cut", 1)])
async def test_the_connection_can_be_cut_around_the_250(mailbox, what, kept):
    """Cut before the 250, the letter is lost or kept; the sender cannot tell which."""
    await mailbox.switch(Switches(faults=(Fault(at="data", what=what),)))

    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await send(mailbox)

    assert kept == len(mailbox.letters)


async def test_the_door_can_be_shut_and_opened(mailbox):
    """Not listening: connections are refused, open ones cut; listening again upon the same port."""
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.smtp_port, local_hostname="test", timeout=5)
    await client.connect()
    await mailbox.switch(Switches(listening=False))

    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await client.noop()
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(mailbox)
    await mailbox.switch(Switches())
    await send(mailbox)

    assert len(mailbox.letters) == 1


@pytest.mark.parametrize("what", [421, "cut"])
async def test_a_client_can_be_turned_away(mailbox, what):
    """At connect the banner is a refusal, or there is none."""
    await mailbox.switch(Switches(faults=(Fault(at="connect", what=what),)))

    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(mailbox)


async def test_it_can_answer_late(mailbox):
    """The delay passes before each answer: a client with less patience gives up."""
    await mailbox.switch(Switches(delay_seconds=30))

    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.smtp_port, local_hostname="test", timeout=0.2)
    with pytest.raises(aiosmtplib.SMTPConnectTimeoutError):
        await client.connect()


async def test_it_can_answer_byte_by_byte(mailbox):
    """A whole answer takes as many delays as it has bytes, and is an answer all the same."""
    await mailbox.switch(Switches(delay_seconds=0.002, byte_by_byte=True))

    await send(mailbox)

    assert len(mailbox.letters) == 1
    await mailbox.switch(Switches(delay_seconds=1, byte_by_byte=True))
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.smtp_port, local_hostname="test", timeout=0.2)
    with pytest.raises(aiosmtplib.SMTPConnectTimeoutError):
        await client.connect()


@pytest.mark.parametrize("at", ["connect", "mail", "rcpt", "data"])
async def test_it_can_say_nothing_at_all(mailbox, at):
    """The connection stays open without an answer, and no letter is kept."""
    await mailbox.switch(Switches(faults=(Fault(at=at, what="hang"),)))

    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.smtp_port, local_hostname="test", timeout=0.3)
    with pytest.raises(aiosmtplib.SMTPTimeoutError):
        async with client:
            await client.sendmail("sender@example.org", ["ada@example.org"], a_letter().as_bytes())

    assert mailbox.letters == []


@pytest.mark.parametrize("banner", ["greeted", "left standing"])
async def test_nobody_is_left_in_a_mailbox_that_is_switched_off(mailbox, banner):
    """Not even who came in the very moment: their connection was accepted, and nobody had spoken to them yet."""
    if banner == "left standing":
        await mailbox.switch(Switches(faults=(Fault(at="connect", what="hang"),)))
    with socket.create_connection(("127.0.0.1", mailbox.smtp_port), timeout=5) as client:
        async with asyncio.timeout(5):
            while not mailbox.connections_total:  # noqa: ASYNC110 - the loop's next round takes the connection
                await asyncio.sleep(0)
        await mailbox.switch(Switches(listening=False))
        try:
            said = await asyncio.to_thread(client.recv, 100)
        except ConnectionResetError:
            said = b""

    assert said == b""
    assert mailbox.conversations == set()


async def test_switches_are_set_and_shown_over_http(mailbox):
    """PUT replaces the switches and GET shows them; what is misspelt is refused and changes nothing."""
    wanted = {
        "listening": True,
        "delay_seconds": 0.0,
        "byte_by_byte": False,
        "starttls": "absent",
        "faults": [{"at": "rcpt", "what": 550, "recipient": "a@example.org", "times": 3}],
    }
    async with aiohttp.ClientSession(mailbox.http_url) as http:
        async with http.put("/api/switches", json=wanted) as answer:
            assert answer.status == 200
        for wrong in ({"listen": False}, {"faults": [{"at": "rcpt", "what": 250}]}, {"faults": [{"at": "rcpt"}]}):
            async with http.put("/api/switches", json=wrong) as answer:
                assert answer.status == 400
                assert (await answer.json())["detail"]
        async with http.get("/api/switches") as answer:
            assert wanted == await answer.json()
        async with http.put("/api/switches", json={}) as answer:
            assert (await answer.json())["faults"] == []


async def test_the_process_serves_until_it_is_told_to_stop(tmp_path):
    """`python -m deploy.dev.mailbox` says where it listens, takes a letter, and ends with 0 upon SIGTERM."""
    arguments = ["--smtp-port", "0", "--http-port", "0", "--state-dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.dev.mailbox", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        port = int(line.split("127.0.0.1:")[1].split(",")[0])

        def converse():
            with smtplib.SMTP("127.0.0.1", port, local_hostname="test", timeout=5) as client:
                client.send_message(a_letter())

        await asyncio.to_thread(converse)
        async with aiohttp.ClientSession(line.split("page ")[1].strip()) as http, http.get("/api/letters") as answer:
            assert len(await answer.json()) == 1
        process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
