"""Hand a letter to the mail server, and say what its answer means.

Enters: one composed letter, and whom to ask before it leaves the house. Leaves: `Accepted`, `LetterRefused`,
`ServerTrouble` or `Withheld`; never an exception of the mail library. Only the answers to RCPT TO and DATA judge a letter.
Connect, banner, EHLO, STARTTLS, AUTH, MAIL FROM and 421 at any point judge the server, and so do two different letters in a
row that lost their connection before the final dot of DATA.
Source of the dialogue: RFC 5321; of the window between the final dot and our record: RFC 1047.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

import aiosmtplib

from consumers.email.compose import Letter
from shared import clock, settings

CONVERSATION_SECONDS_MAX = 20.0  # below the lease of a letter, so that nobody else sends it while we still talk
CONNECT_SECONDS_MAX = 10.0
IDLE_SECONDS_MAX = 30.0  # servers close idle clients after minutes, busy ones after seconds
LETTERS_PER_CONNECTION_MAX = 100  # many servers end a session after as many
QUIT_SECONDS_MAX = 1.0
SERVICE_CLOSING = 421
PERMANENT_FROM = 500
POSITIVE = 2
INTERMEDIATE = 3

_STUFFED = re.compile(rb"(?m)^\.")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server said 250: it answers for the letter from now on. `answer` is its code, without its words."""

    answer: str


@dataclass(frozen=True, slots=True)
class LetterRefused:
    """This letter was judged. `code` is None when the connection ended after RCPT; `answer` is fit for records (no PII)."""

    code: int | None
    permanent: bool
    answer: str


@dataclass(frozen=True, slots=True)
class ServerTrouble:
    """The server takes no letters now, whichever it is; `reason` is for an operator and names no person and no secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """Whoever was asked before DATA said no, or did not answer in time: the server has nothing of the letter."""


Outcome = Accepted | LetterRefused | ServerTrouble | Withheld
MayLeave = Callable[[], Awaitable[bool]]


class _Stage(IntEnum):
    """How far the conversation about one letter came."""

    BEFORE_RCPT = 0
    RCPT = 1
    ASKING = 2  # the recipient was taken; whether the letter may leave is being asked
    DATA = 3
    DOT = 4  # the letter and its final dot are on their way: it may have been accepted


@dataclass(slots=True)
class _Connection:
    client: aiosmtplib.SMTP
    stage: _Stage = _Stage.BEFORE_RCPT
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
        self._lost_before_dot: str | None = None

    async def deliver(self, letter: Letter, *, may_leave: MayLeave) -> Outcome:
        """Send one letter, at most 20 s; a connection that proved stale before RCPT is replaced once, unjudged.

        `may_leave` is asked between RCPT and DATA, once the recipient is accepted; it must answer, and not raise.
        """
        deadline = clock.monotonic() + CONVERSATION_SECONDS_MAX
        connection = self._take_idle()
        if connection is not None:
            outcome = await self._converse(connection, letter, may_leave, deadline)
            if not isinstance(outcome, ServerTrouble):
                return self._judged(outcome, connection, letter)
        connection = _Connection(self._client())
        return self._judged(await self._converse(connection, letter, may_leave, deadline), connection, letter)

    async def close(self) -> None:
        """Say goodbye on every idle connection, for a second at most."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_goodbye(connection) for connection in idle))

    def _client(self) -> aiosmtplib.SMTP:
        smtp = self._smtp
        return aiosmtplib.SMTP(
            hostname=smtp.smtp_host,
            port=smtp.smtp_port,
            username=smtp.smtp_user,
            password=smtp.smtp_password.get_secret_value() if smtp.smtp_password else None,
            # Looking up our own name can take seconds, and servers ask only that it looks like one.
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
        connection.stage = _Stage.BEFORE_RCPT
        try:
            async with asyncio.timeout(max(deadline - clock.monotonic(), 0)):
                outcome = await _send(connection, letter, may_leave)
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

    def _judged(self, outcome: Outcome, connection: _Connection, letter: Letter) -> Outcome:
        """Apply the rule of two: one letter may break a server's connection, two in a row means the server breaks."""
        before, self._lost_before_dot = self._lost_before_dot, None
        lost = isinstance(outcome, LetterRefused) and outcome.code is None and connection.stage < _Stage.DOT
        if not lost:
            return outcome
        self._lost_before_dot = letter.message_id
        if before is not None and before != letter.message_id:
            return ServerTrouble("connections are lost before the final dot, one letter after another")
        return outcome


async def _send(connection: _Connection, letter: Letter, may_leave: MayLeave) -> Outcome:
    client = connection.client
    if not client.is_connected:
        await client.connect(timeout=CONNECT_SECONDS_MAX)
    await client.mail(letter.sender)
    connection.stage = _Stage.RCPT
    await client.rcpt(letter.recipient)
    connection.stage = _Stage.ASKING
    if not await may_leave():
        return Withheld()
    connection.stage = _Stage.DATA
    go_on = await client.execute_command(b"DATA")
    if go_on.code // 100 != INTERMEDIATE:
        raise aiosmtplib.SMTPDataError(go_on.code, go_on.message)
    protocol = client.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    # Here and not by the library's `data()`, which does not tell whether a lost connection had the final dot behind it.
    protocol.write(_STUFFED.sub(b"..", letter.content) + b".\r\n")
    connection.stage = _Stage.DOT
    answer = await protocol.read_response(timeout=CONVERSATION_SECONDS_MAX)
    if answer.code // 100 != POSITIVE:
        raise aiosmtplib.SMTPDataError(answer.code, answer.message)
    return Accepted(_fit_for_records(answer.code, answer.message))


async def _ready_for_more(connection: _Connection, outcome: Outcome) -> bool:
    """Tell whether the connection can take another letter; a refused one is forgotten by RSET first."""
    if isinstance(outcome, LetterRefused) and outcome.code is None:
        return False
    if not isinstance(outcome, Accepted):
        try:
            await connection.client.rset(timeout=QUIT_SECONDS_MAX)
        except (aiosmtplib.SMTPException, OSError):
            return False
    return connection.client.is_connected


def _judge_answer(refusal: aiosmtplib.SMTPResponseException, stage: _Stage) -> Outcome:
    answer = _fit_for_records(refusal.code, str(refusal.message))
    if refusal.code == SERVICE_CLOSING or stage is _Stage.BEFORE_RCPT:
        return ServerTrouble(f"{_step(refusal)} was answered {answer}")
    if not 400 <= refusal.code <= 599:  # noqa: PLR2004 - RFC 5321, section 4.2.1: negative answers are 4yz and 5yz
        return LetterRefused(None, permanent=False, answer="unintelligible")
    return LetterRefused(refusal.code, permanent=refusal.code >= PERMANENT_FROM, answer=answer)


def _judge_loss(loss: Exception, stage: _Stage) -> Outcome:
    if stage is _Stage.BEFORE_RCPT:
        return ServerTrouble(_why(loss))
    if stage is _Stage.ASKING:
        return Withheld()
    where = "after_dot" if stage is _Stage.DOT else "before_dot"
    return LetterRefused(None, permanent=False, answer=f"connection_lost_{where}")


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
        case aiosmtplib.SMTPRecipientRefused():
            return "RCPT TO"
        case aiosmtplib.SMTPDataError():
            return "DATA"
        case _:
            return "STARTTLS"


def _why(loss: Exception) -> str:
    """Name a loss without the library's words, which repeat addresses."""
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
        case _:
            return f"it cannot be reached: {type(root).__name__}"


def _fit_for_records(code: int, words: str) -> str:
    """Return the code, with the enhanced one of RFC 3463 when there is one; the words may hold the address."""
    enhanced = _ENHANCED.match(words)
    return f"{code} {enhanced.group()}" if enhanced else str(code)


async def _goodbye(connection: _Connection) -> None:
    with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
        await connection.client.quit(timeout=QUIT_SECONDS_MAX)
    connection.client.close()
