"""The mailbox of the box: SMTP in, a page for people and JSON for programs out.

A real mail server on real sockets that keeps every letter and delivers none. Its switches make it fail as mail servers do: see
`switches.py`. Run it by `python -m deploy.dev.mailbox`, or inside a test by `open_mailbox`.
"""

from deploy.dev.mailbox.letters import Letter
from deploy.dev.mailbox.server import Mailbox, open_mailbox
from deploy.dev.mailbox.switches import Fault, Switches

__all__ = ["Fault", "Letter", "Mailbox", "Switches", "open_mailbox"]
