"""Our HTTP servers name no software to strangers, and aiohttp logs nothing about them.

Enters: an answer that is about to leave. Leaves: the same, naming no software. Next: ingress/app.py, for the door, and
kafka/health.py, for the port of health and metrics.
"""

import logging

from aiohttp import hdrs, web

# aiohttp's own names it, Python and both versions: a stranger would know which of their holes to try.
SERVER = "CultureBridge"
# A broken request is answered 400 by aiohttp and is no error of ours; aiohttp's line about it names an address.
SILENCED = logging.getLogger("strangers")
SILENCED.setLevel(logging.CRITICAL)


async def hide_software(_request: web.Request, response: web.StreamResponse) -> None:
    """Name no software and no version in an answer; for `on_response_prepare`."""
    response.headers[hdrs.SERVER] = SERVER
