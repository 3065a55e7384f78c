"""The SMTP side: aiosmtpd, with the switches looked up at every step of the conversation."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, AnyStr, NoReturn, Protocol

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from deploy.dev.mailbox.switches import Fault, Stage, Switches

HOSTNAME = "mailbox.localhost"  # a fixed name: asking the resolver for ours can take seconds


class Keeper(Protocol):
    """The part of the mailbox that a conversation uses."""

    conversations: set["Conversation | Turned"]

    def fault(self, at: Stage, recipients: list[str]) -> Fault | None:
        """Return what goes wrong now, if anything, and count it as happened."""

    async def keep(self, mail_from: str, rcpt_to: list[str], raw: bytes) -> None:
        """Take one letter for good."""

    @property
    def switches(self) -> Switches:
        """How unfriendly the server is now."""


class Conversation(SMTP):
    """One client's connection."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        tls: ssl.SSLContext | None,
        login: tuple[str, str] | None,
    ) -> None:
        self._keeper = keeper
        super().__init__(
            Hooks(keeper),
            loop=asyncio.get_running_loop(),
            hostname=HOSTNAME,
            ident="CultureBridge mailbox",
            enable_SMTPUTF8=True,
            tls_context=None if keeper.switches.starttls == "absent" else tls,
            auth_required=login is not None,
            auth_require_tls=tls is not None,
            authenticator=None if login is None else _doorkeeper(keeper, login),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the mailbox's open conversations, so that switching it off ends them too."""
        self._keeper.conversations.add(self)
        super().connection_made(transport)
        if not self._keeper.switches.listening:
            self.abort()  # switched off between the accepted connection and this call

    def connection_lost(self, error: Exception | None) -> None:
        """Leave them again."""
        self._keeper.conversations.discard(self)
        super().connection_lost(error)

    def eof_received(self) -> bool:
        """Close when the client has closed. aiosmtpd would leave the connection open if that came before the greeting."""
        super().eof_received()
        return False

    async def push(self, status: AnyStr) -> None:
        """Answer, after the delay that is switched on, and as slowly."""
        switches = self._keeper.switches
        if switches.byte_by_byte:
            line = _line(status)
            for place in range(len(line)):
                await asyncio.sleep(switches.delay_seconds)
                self._writer.write(line[place : place + 1])
            return
        if switches.delay_seconds:
            await asyncio.sleep(switches.delay_seconds)
        await super().push(status)

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802 - aiosmtpd looks for this name
        """Begin TLS, or answer the client's handshake with nonsense."""
        if self._keeper.switches.starttls != "broken":
            await super().smtp_STARTTLS(arg)
            return
        await self.push("220 Ready to start TLS")
        await self._reader.read(1)  # what came before the client's handshake would be thrown away
        self._writer.write(b"this is no TLS record\r\n")
        await self.end_silently()

    def abort(self) -> None:
        """End the connection at once, with nothing more said."""
        if isinstance(self.transport, asyncio.WriteTransport):
            # One that closes already, by TLS, raises in Python 3.11.2; later ones do nothing there.
            with contextlib.suppress(AttributeError):
                self.transport.abort()

    async def cut(self) -> NoReturn:
        """End the connection, and this coroutine with it: losing the connection cancels the conversation's task."""
        self.abort()
        await self.end_silently()

    async def end_silently(self) -> NoReturn:
        """Say nothing more until the connection is lost, which cancels the conversation's task."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the conversation went on after its connection was lost")


class Turned(asyncio.Protocol):
    """A connection that is refused with a code, closed without a word, or left without an answer."""

    def __init__(self, keeper: Keeper, fault: Fault) -> None:
        self._keeper = keeper
        self._fault = fault
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse or say nothing, and close; a connection left open is closed when the mailbox is switched off."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._keeper.conversations.add(self)
        if isinstance(self._fault.what, int):
            transport.write(_answer(self._fault.what).encode() + b"\r\n")
        if self._fault.what != "hang" or not self._keeper.switches.listening:
            transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Leave the mailbox's conversations."""
        self._keeper.conversations.discard(self)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()


class Hooks:
    """What aiosmtpd calls at each stage; the names and arguments are its own."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def handle_EHLO(  # noqa: N802 - aiosmtpd looks for this name
        self, server: Conversation, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Greet."""
        session.host_name = hostname
        refusal = await self._stage(server, "ehlo", [])
        return responses if refusal is None else [refusal]

    async def handle_MAIL(  # noqa: N802 - aiosmtpd looks for this name
        self, server: Conversation, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the sender."""
        refusal = await self._stage(server, "mail", [])
        if refusal is not None:
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self, server: Conversation, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take one recipient."""
        refusal = await self._stage(server, "rcpt", [address])
        if refusal is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks for this name
        self, server: Conversation, _session: Session, envelope: Envelope
    ) -> str:
        """Take the letter: keep it before saying 250, as RFC 5321 section 6.1 asks."""
        recipients = list(envelope.rcpt_tos)
        fault = self._keeper.fault("data", recipients)
        if fault is not None and isinstance(fault.what, int):
            return _answer(fault.what)
        if fault is not None and fault.what == "cut":
            await server.cut()
        if fault is not None and fault.what == "hang":
            await server.end_silently()
        assert isinstance(envelope.original_content, bytes)
        await self._keeper.keep(envelope.mail_from or "", recipients, envelope.original_content)
        if fault is not None:
            await server.cut()
        return "250 OK, kept"

    async def _stage(self, server: Conversation, at: Stage, recipients: list[str]) -> str | None:
        """Return the refusal set for this stage, or None; a cut never returns."""
        fault = self._keeper.fault(at, recipients)
        if fault is None:
            return None
        if fault.what == "hang":
            await server.end_silently()
        if not isinstance(fault.what, int):
            await server.cut()
        return _answer(fault.what)


def _doorkeeper(keeper: Keeper, login: tuple[str, str]) -> Callable[[SMTP, Session, Envelope, str, Any], AuthResult]:
    def authenticate(server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, auth_data: object) -> AuthResult:
        fault = keeper.fault("auth", [])
        if fault is not None and isinstance(fault.what, int):
            return AuthResult(success=False, handled=False, message=_answer(fault.what))
        if fault is not None and isinstance(server, Conversation):
            server.abort()
        expected = LoginPassword(login[0].encode(), login[1].encode())
        return AuthResult(success=auth_data == expected, handled=False)

    return authenticate


def _line(answer: str | bytes) -> bytes:
    return (answer.encode() if isinstance(answer, str) else answer) + b"\r\n"


def _answer(code: int) -> str:
    return f"{code} {code // 100}.0.0 The mailbox was told to refuse"
