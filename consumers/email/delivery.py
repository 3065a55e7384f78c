"""Sends a letter to the mail server, and interprets the server's answers.

Enters: one composed letter, and a callback that is called before DATA. Leaves: an outcome (outcomes.py); never an exception of
the mail library. Only the answers to RCPT TO and DATA judge a letter. Connect, banner, EHLO, STARTTLS, AUTH and MAIL FROM judge
the server, and so do a 421, lost connections and refusals when they meet more than one letter. Source of the dialogue: RFC
5321; of the window between the final dot and our record: RFC 1047. The walk ends here.
"""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

import aiohappyeyeballs
import aiosmtplib

from consumers.email.compose import Letter
from consumers.email.outcomes import SERVICE_CLOSING, Accepted, Blame, LetterRefused, NotHandedOver, Outcome, ServerTrouble
from shared import clock, settings

CONVERSATION_SECONDS_MAX = 20.0  # to the final dot; below a claim's lease, so that no other sender takes the letter meanwhile
DOT_SECONDS_MAX = 60.0  # servers scan a letter before they answer: giving up on one that accepts it would send it twice
LAST_LOOK_SECONDS = 0.1
CONNECT_SECONDS_MAX = 10.0  # until the connection is open; servers that look up our address greet only later
NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, section 5: a name's next address is tried beside one that has not answered by then
KEPT_SECONDS_MAX = 5.0  # for MAIL FROM on a kept connection, which a server that is alive answers at once
IDLE_SECONDS_MAX = 30.0  # servers close idle clients after minutes, busy ones after seconds
LETTERS_PER_CONNECTION_MAX = 100  # many servers end a session after that many
QUIT_SECONDS_MAX = 1.0
PERMANENT_FROM = 500
POSITIVE = 2
INTERMEDIATE = 3

_STUFFED = re.compile(rb"(?m)^\.")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


MayLeave = Callable[[], Awaitable[bool]]


class _Stage(IntEnum):
    """How far the conversation about one letter has come."""

    CONNECT = 0
    AUTH = 1
    MAIL = 2
    RCPT = 3
    ASKING = 4  # the recipient was accepted; `may_leave` is being called
    DATA = 5
    DOT = 6  # the letter and its final dot are on their way: it may have been accepted


@dataclass(slots=True)
class _Connection:
    client: aiosmtplib.SMTP
    stage: _Stage = _Stage.CONNECT
    letters: int = 0
    idle_since: float = field(default_factory=clock.monotonic)

    def reusable(self) -> bool:
        fresh = clock.monotonic() - self.idle_since < IDLE_SECONDS_MAX
        return self.client.is_connected and fresh and self.letters < LETTERS_PER_CONNECTION_MAX


class Delivery:
    """A small pool of long-lived connections to one mail server; as many as letters are delivered at once."""

    def __init__(self, smtp: settings.Smtp) -> None:
        """Trust the certificates of the authority that the settings name, else of the system's."""
        self._smtp = smtp
        encrypts = smtp.smtp_security != "none"
        self._tls = ssl.create_default_context(cafile=smtp.smtp_ssl_ca_file) if encrypts else None
        self._idle: list[_Connection] = []
        self._blame = Blame()

    async def deliver(self, letter: Letter, *, may_leave: MayLeave) -> Outcome:
        """Send one letter, at most 20 s to its final dot and 60 s from there; a kept connection that ends is replaced once.

        `may_leave` is called between RCPT and DATA, once the recipient is accepted; it must return, and not raise.
        """
        deadline = clock.monotonic() + CONVERSATION_SECONDS_MAX
        connection = self._take_idle()
        if connection is not None:
            outcome = await self._converse(connection, letter, may_leave, deadline)
            if not isinstance(outcome, ServerTrouble) and not _turned_away(outcome):
                return self._judged(outcome, connection, letter)
        connection = _Connection(self._client())
        return self._judged(await self._converse(connection, letter, may_leave, deadline), connection, letter)

    async def close(self) -> None:
        """Send QUIT on every idle connection, and wait a second at most."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_goodbye(connection) for connection in idle))

    def _client(self) -> aiosmtplib.SMTP:
        smtp = self._smtp
        return aiosmtplib.SMTP(
            hostname=smtp.smtp_host,
            # Looking up our own name can take seconds, and servers need only a name of valid form.
            local_hostname=smtp.smtp_from_email.rpartition("@")[2],
            use_tls=smtp.smtp_security == "tls",
            start_tls=smtp.smtp_security == "starttls",
            tls_context=self._tls,
            timeout=CONVERSATION_SECONDS_MAX,
        )

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable():
                return connection
            connection.client.close()
        return None

    async def _converse(self, connection: _Connection, letter: Letter, may_leave: MayLeave, deadline: float) -> Outcome:
        """Hold one conversation until the deadline; afterwards the connection is idle again or closed."""
        connection.stage = _Stage.CONNECT
        try:
            async with asyncio.timeout(max(deadline - clock.monotonic(), 0)) as limit:
                if not connection.client.is_connected:
                    await self._connect(connection)
                outcome = await _send(connection, letter, may_leave, limit)
        except aiosmtplib.SMTPResponseException as refusal:
            outcome = _judge_answer(refusal, connection.stage)
        except (aiosmtplib.SMTPException, TimeoutError, OSError) as loss:
            outcome = _judge_loss(loss, connection.stage)
        except BaseException:
            connection.client.close()
            raise
        if isinstance(outcome, ServerTrouble) or not await _ready_for_more(connection, outcome):
            connection.client.close()
        else:
            connection.letters += 1
            connection.idle_since = clock.monotonic()
            self._idle.append(connection)
        return outcome

    async def _connect(self, connection: _Connection) -> None:
        """Reach the server at any address of its name, encrypt, and log in where we have a password."""
        smtp = self._smtp
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            sock = await _reach(smtp.smtp_host, smtp.smtp_port)
        await connection.client.connect(sock=sock)
        if smtp.smtp_user and smtp.smtp_password:
            connection.stage = _Stage.AUTH
            await connection.client.login(smtp.smtp_user, smtp.smtp_password.get_secret_value())

    def _judged(self, outcome: Outcome, connection: _Connection, letter: Letter) -> Outcome:
        at = "RCPT TO" if connection.stage <= _Stage.RCPT else "DATA"
        return self._blame.judge(outcome, letter.message_id, at=at, after_dot=connection.stage is _Stage.DOT)


async def _reach(host: str, port: int) -> socket.socket:
    """Return a connection to the first of the name's addresses that answers; raises OSError when none does."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        return await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
    except RuntimeError as unusual:  # uvloop's, for an address that it cannot make sense of
        raise OSError(str(unusual)) from unusual


async def _send(connection: _Connection, letter: Letter, may_leave: MayLeave, limit: asyncio.Timeout) -> Outcome:
    client = connection.client
    connection.stage = _Stage.MAIL
    # A firewall or a crash may have ended a kept connection silently; the remaining time is for a new one.
    await client.mail(letter.sender, timeout=KEPT_SECONDS_MAX if connection.letters else CONVERSATION_SECONDS_MAX)
    connection.stage = _Stage.RCPT
    # Not by the library's `rcpt()`, which accepts only two codes: the first digit decides (RFC 5321, section 4.2).
    taken = await client.execute_command(b"RCPT", b"TO:<%s>" % letter.recipient.encode("ascii"))
    if taken.code // 100 != POSITIVE:
        raise aiosmtplib.SMTPRecipientRefused(taken.code, taken.message, letter.recipient)
    connection.stage = _Stage.ASKING
    if not await may_leave():
        return NotHandedOver()
    connection.stage = _Stage.DATA
    go_on = await client.execute_command(b"DATA")
    if go_on.code // 100 != INTERMEDIATE:
        raise aiosmtplib.SMTPDataError(go_on.code, go_on.message)
    if limit.expired():
        # The library uses wait_for, which in Python 3.11 returns an answer and drops the deadline that passed at the same time.
        # A process that was frozen meanwhile meets both, and another sender may have sent the letter.
        raise TimeoutError
    protocol = client.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    answer = await _hand_in(connection, protocol, letter.content, limit)
    if answer.code // 100 != POSITIVE:
        raise aiosmtplib.SMTPDataError(answer.code, answer.message)
    return Accepted(_fit_for_records(answer.code, answer.message))


async def _hand_in(
    connection: _Connection, protocol: aiosmtplib.protocol.SMTPProtocol, content: bytes, limit: asyncio.Timeout
) -> aiosmtplib.SMTPResponse:
    """Write the letter and its final dot, and return the answer; raises TimeoutError when none came in time.

    Not by the library's `data()`, which does not show whether the final dot was sent before a connection was lost. A process
    that was stopped meanwhile (SIGSTOP, a machine that was moved) sees the timeout before the answer that has come. So we wait
    a moment more before the answer counts as missing, since the letter would then be sent again.
    """
    reading = asyncio.ensure_future(protocol.read_response())
    try:
        await asyncio.sleep(0)  # the task reads from here on: the library drops an answer that nothing waits for
        protocol.write(_STUFFED.sub(b"..", content) + b".\r\n")
        connection.stage = _Stage.DOT
        limit.reschedule(None)
        for seconds in (DOT_SECONDS_MAX, LAST_LOOK_SECONDS):
            await asyncio.wait((reading,), timeout=seconds)
            if reading.done():
                return await reading
    finally:
        reading.cancel()
    raise TimeoutError


async def _ready_for_more(connection: _Connection, outcome: Outcome) -> bool:
    """Return whether the connection can take another letter; RSET first discards one that was not accepted."""
    if isinstance(outcome, LetterRefused) and outcome.code in {None, SERVICE_CLOSING}:
        return False
    if not isinstance(outcome, Accepted):
        try:
            await connection.client.rset(timeout=QUIT_SECONDS_MAX)
        except (aiosmtplib.SMTPException, OSError):
            return False
    return connection.client.is_connected


def _turned_away(outcome: Outcome) -> bool:
    return isinstance(outcome, LetterRefused) and outcome.code == SERVICE_CLOSING


def _judge_answer(refusal: aiosmtplib.SMTPResponseException, stage: _Stage) -> Outcome:
    if refusal.code == aiosmtplib.SMTPStatus.invalid_response and stage < _Stage.RCPT:
        return ServerTrouble("what it answers is no SMTP")
    answer = _fit_for_records(refusal.code, str(refusal.message))
    if stage < _Stage.RCPT:
        return ServerTrouble(f"{_step(refusal)} was answered {answer}")
    if not 400 <= refusal.code <= 599:  # noqa: PLR2004 - RFC 5321, section 4.2.1: negative answers are 4yz and 5yz
        return LetterRefused(None, permanent=False, answer=f"unintelligible_{_place(stage)}")
    return LetterRefused(refusal.code, permanent=refusal.code >= PERMANENT_FROM, answer=answer)


def _judge_loss(loss: Exception, stage: _Stage) -> Outcome:
    if stage < _Stage.RCPT:
        return ServerTrouble(f"{_why(loss)}, at AUTH (user or password)" if stage is _Stage.AUTH else _why(loss))
    if stage is _Stage.ASKING:
        return NotHandedOver()
    return LetterRefused(None, permanent=False, answer=f"connection_lost_{_place(stage)}")


def _place(stage: _Stage) -> str:
    return "after_dot" if stage is _Stage.DOT else "before_dot"


def _step(refusal: aiosmtplib.SMTPResponseException) -> str:
    match refusal:
        case aiosmtplib.SMTPConnectResponseError():
            return "connecting"
        case aiosmtplib.SMTPHeloError():
            return "EHLO"
        case aiosmtplib.SMTPAuthenticationError():
            return "AUTH (user or password)"
        case aiosmtplib.SMTPSenderRefused():
            return "MAIL FROM"
        case _:
            return "STARTTLS"


def _why(loss: Exception) -> str:
    """Describe a loss without the library's text, which repeats addresses."""
    root = loss.__cause__ if isinstance(loss.__cause__, OSError) else loss
    match root:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {root.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {root.reason}"
        case TimeoutError():
            return "it does not answer in time"
        case aiosmtplib.SMTPServerDisconnected() | aiosmtplib.SMTPConnectError():
            return "it ended the connection"
        case aiosmtplib.SMTPException():
            return f"it lacks what we need: {root.message}"
        case socket.gaierror():
            return f"its name cannot be looked up: {root.strerror}"
        case OSError(errno=int(number)) if type(root) is OSError:  # which says no more than its number
            return f"it cannot be reached: {errno.errorcode.get(number, number)}"
        case _:
            return f"it cannot be reached: {type(root).__name__}"


def _fit_for_records(code: int, words: str) -> str:
    """Return the code, with the enhanced one of RFC 3463 when there is one, but not the text, which may hold the address."""
    enhanced = _ENHANCED.match(words)
    return f"{code} {enhanced.group()}" if enhanced else str(code)


async def _goodbye(connection: _Connection) -> None:
    with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
        await connection.client.quit(timeout=QUIT_SECONDS_MAX)
    connection.client.close()
