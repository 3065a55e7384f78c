"""What our HTTP servers share: they name no software to clients, and aiohttp's own log lines about clients are off.

Enters: an answer that is about to be sent. Leaves: the same, naming no software. Next: ingress/app.py, for the door, and
kafka/health.py, for the port of health and metrics.
"""

import logging

from aiohttp import hdrs, web

# aiohttp's default names aiohttp, Python and both versions: an attacker would know which vulnerabilities to try.
SERVER = "CultureBridge"
# A broken request is answered 400 by aiohttp and is no error of ours; aiohttp's line about it names the client's address.
SILENCED = logging.getLogger("http_servers")
SILENCED.setLevel(logging.CRITICAL)


async def hide_software(_request: web.Request, response: web.StreamResponse) -> None:
    """Name no software and no version in an answer; for `on_response_prepare`."""
    response.headers[hdrs.SERVER] = SERVER
