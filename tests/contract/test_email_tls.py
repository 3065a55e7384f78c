"""Neither letter nor password leaves in the clear, or for a server that cannot prove itself: that is the server's trouble."""

import asyncio

import pytest

from consumers.email.delivery import Delivery
from consumers.email.outcomes import Accepted, ServerTrouble
from deploy.dev.mailbox import Fault, Switches, open_mailbox
from tests.support import certificates
from tests.support.mail import a_letter, deliver, smtp


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The file of a certificate for localhost that nobody's authorities know."""
    return certificates.make(tmp_path_factory.mktemp("tls"))


def encrypting(box, certificate, *, password="secret"):
    """A delivery that trusts this certificate alone, and logs in."""
    login = {"smtp_user": "user", "smtp_password": password}
    return Delivery(smtp(box, smtp_security="starttls", smtp_ssl_ca_file=str(certificate), **login))


async def test_starttls_with_a_trusted_certificate_and_a_password(certificate, tmp_path):
    """The default: encrypted, the certificate verified, and only then the password."""
    async with open_mailbox(tmp_path, tls=certificates.serving(certificate), login=("user", "secret")) as box:
        delivery = encrypting(box, certificate)
        assert await deliver(delivery, a_letter()) == Accepted("250")
        await delivery.close()


async def test_a_server_that_speaks_tls_from_the_first_byte_gets_the_letter(certificate, mailbox):
    """Port 465: there, too, the certificate of the settings' authority is trusted."""
    serving = certificates.serving(certificate)
    async with await asyncio.get_running_loop().create_server(mailbox._answer, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        delivery = Delivery(smtp(mailbox, smtp_port=port, smtp_security="tls", smtp_ssl_ca_file=str(certificate)))
        assert await deliver(delivery, a_letter()) == Accepted("250")
        await delivery.close()


async def test_a_server_that_speaks_plainly_where_tls_is_due_gets_no_letter(certificate, mailbox):
    """Another port by mistake, or somebody between: the server's trouble, named."""
    outcome = await deliver(Delivery(smtp(mailbox, smtp_security="tls", smtp_ssl_ca_file=str(certificate))), a_letter())

    assert isinstance(outcome, ServerTrouble)
    assert "TLS failed" in outcome.reason
    assert mailbox.letters == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate, tmp_path):
    """No letter and no password goes to a server that cannot prove who it is; the reason says why."""
    async with open_mailbox(tmp_path, tls=certificates.serving(certificate), login=("user", "secret")) as box:
        delivery = Delivery(smtp(box, smtp_security="starttls", smtp_user="user", smtp_password="secret"))

        outcome = await deliver(delivery, a_letter())
        assert isinstance(outcome, ServerTrouble)
        assert "certificate is not trusted" in outcome.reason
        assert box.letters == []


@pytest.mark.parametrize(("starttls", "why"), [("absent", "STARTTLS"), ("broken", "TLS failed")])
async def test_a_server_whose_tls_is_gone_gets_neither_letter_nor_password(certificate, tmp_path, starttls, why):
    """Not offered any more, or broken in the handshake: the server's trouble, named; well again, the letter goes out."""
    async with open_mailbox(tmp_path, tls=certificates.serving(certificate), login=("user", "secret")) as box:
        delivery = encrypting(box, certificate)
        await box.switch(Switches(starttls=starttls))
        outcome = await deliver(delivery, a_letter())
        assert isinstance(outcome, ServerTrouble)
        assert why in outcome.reason

        await box.switch(Switches())
        assert await deliver(delivery, a_letter()) == Accepted("250")
        await delivery.close()


@pytest.mark.parametrize("what", [535, "cut", 454])
async def test_whatever_goes_wrong_at_auth_is_the_servers_trouble(certificate, tmp_path, what):
    """Refused, cut off or put off: no letter is to blame, and the reason names the step, also where a refusal ends it.

    Who was let in is not told of their password when the connection ends later.
    """
    async with open_mailbox(tmp_path, tls=certificates.serving(certificate), login=("user", "secret")) as box:
        delivery = encrypting(box, certificate)
        await box.switch(Switches(faults=(Fault(at="auth", what=what),)))
        outcome = await deliver(delivery, a_letter())
        assert isinstance(outcome, ServerTrouble)
        assert "AUTH (user or password)" in outcome.reason

        await box.switch(Switches(faults=(Fault(at="mail", what="cut"),)))
        assert await deliver(delivery, a_letter()) == ServerTrouble("it ended the connection")
        await delivery.close()


async def test_without_starttls_no_credentials_are_sent(mailbox, monkeypatch):
    """A server (or somebody between) that does not offer STARTTLS gets neither letter nor password."""
    said = []
    monkeypatch.setattr(
        "deploy.dev.mailbox.smtp.Conversation.smtp_AUTH", lambda *arguments: said.append(arguments), raising=False
    )
    delivery = Delivery(smtp(mailbox, smtp_security="starttls", smtp_user="user", smtp_password="secret"))

    outcome = await deliver(delivery, a_letter())
    assert isinstance(outcome, ServerTrouble)
    assert "STARTTLS" in outcome.reason
    assert (said, mailbox.letters) == ([], [])


async def test_a_wrong_password_is_the_servers_trouble_and_says_so(certificate, tmp_path):
    """535 is no letter's fault, and the operator reads AUTH in the reason, not the password."""
    async with open_mailbox(tmp_path, tls=certificates.serving(certificate), login=("user", "secret")) as box:
        delivery = encrypting(box, certificate, password="wrong-one")
        outcome = await deliver(delivery, a_letter())
        assert isinstance(outcome, ServerTrouble)
        assert "AUTH" in outcome.reason
        assert "535" in outcome.reason
        assert "wrong-one" not in outcome.reason
