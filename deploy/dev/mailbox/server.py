"""The mailbox as one object: two servers, one store of letters, one set of switches."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from aiohttp import web

from deploy.dev.mailbox.letters import Letter, Letters
from deploy.dev.mailbox.smtp import Conversation, Turned
from deploy.dev.mailbox.switches import Fault, Stage, Switches
from deploy.dev.mailbox.web import application
from deploy.dev.mailbox.wording import Ask, of_release
from shared import clock

HOST = "127.0.0.1"  # loopback, unless asked: whoever reaches a mailbox may read it


class Mailbox:
    """One running mailbox; made by `open_mailbox`."""

    def __init__(
        self,
        letters: Letters,
        *,
        host: str,
        smtp_port: int,
        tls: ssl.SSLContext | None,
        login: tuple[str, str] | None,
    ) -> None:
        self.smtp_port = smtp_port
        self.http_url = ""
        self.connections_total = 0
        self.conversations: set[Conversation | Turned] = set()
        self.named: list[tuple[datetime, str]] = []
        self.store = letters
        self._switches = Switches()
        self._host = host
        self._tls = tls
        self._login = login
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Condition()

    def named_at(self, recipient: str) -> list[datetime]:
        """Return each moment at which a conversation named this recipient, whatever was answered."""
        return [moment for moment, named in self.named if named == recipient]

    @property
    def switches(self) -> Switches:
        """The present faults and delays; faults with `times` have counted down."""
        return self._switches

    @property
    def letters(self) -> list[Letter]:
        """All letters, oldest first."""
        return self.store.after("")

    async def switch(self, switches: Switches) -> None:
        """Set all switches; switching `listening` off also ends open conversations."""
        self._switches = switches
        if switches.listening:
            await self._listen()
        else:
            await self._hang_up()

    async def wait_for_letters(self, count: int, *, deadline_seconds: float = 10.0) -> list[Letter]:
        """Return the letters once there are at least so many; raises TimeoutError after the deadline."""
        async with asyncio.timeout(deadline_seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.store) >= count)
        return self.letters

    def fault(self, at: Stage, recipients: list[str]) -> Fault | None:
        """Return what goes wrong at this stage, if anything, and count it as happened."""
        if at == "rcpt":
            self.named += [(clock.now(), recipient) for recipient in recipients]
        fault = self._switches.fault(at, recipients)
        if fault is not None:
            self._switches = self._switches.spent(fault)
        return fault

    async def keep(self, mail_from: str, rcpt_to: list[str], raw: bytes) -> None:
        """Store one letter and wake the callers that wait for it."""
        self.store.keep(mail_from, rcpt_to, raw)
        async with self._arrived:
            self._arrived.notify_all()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.get_running_loop().create_server(self._answer, self._host, self.smtp_port)
            self.smtp_port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for conversation in list(self.conversations):
            conversation.abort()
        # A transport tells of its end in the loop's next round; whoever comes after must find the door shut and the room empty.
        await asyncio.sleep(0)

    def _answer(self) -> asyncio.Protocol:
        self.connections_total += 1
        fault = self.fault("connect", [])
        return Turned(self, fault) if fault is not None else Conversation(self, tls=self._tls, login=self._login)


@asynccontextmanager
async def open_mailbox(
    state_dir: Path,
    *,
    host: str = HOST,
    smtp_port: int = 0,
    http_port: int = 0,
    tls: ssl.SSLContext | None = None,
    login: tuple[str, str] | None = None,
    ask_wording: Ask = of_release,
) -> AsyncIterator[Mailbox]:
    """Run a mailbox while the block runs, on loopback unless `host` says where; port 0 takes any free one.

    With `tls` (a server's context) it offers STARTTLS; with `login` (user, password) it wants AUTH, over TLS only where TLS is
    offered. `ask_wording` tells its page what letters say by now. Letters of an earlier run in the same `state_dir` are there
    again. Raises OSError when a port is taken.
    """
    mailbox = Mailbox(Letters(state_dir), host=host, smtp_port=smtp_port, tls=tls, login=login)
    runner = web.AppRunner(application(mailbox, ask_wording), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, http_port)
        await site.start()
        mailbox.http_url = f"http://{HOST}:{runner.addresses[0][1]}"
        await mailbox.switch(Switches())
        yield mailbox
    finally:
        await mailbox.switch(Switches(listening=False))
        await runner.cleanup()
