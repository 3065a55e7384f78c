"""The API's description and the page to read and try it: /openapi.json and /docs.

Enters: two files of pages/. Leaves: the same, with a policy under which the page runs only its own script and style
(https://www.w3.org/TR/CSP3/): it needs no network but this server.
"""

import base64
import hashlib
import re
from pathlib import Path

from aiohttp import web

PAGES = Path(__file__).with_name("pages")
OPENAPI = (PAGES / "openapi.json").read_bytes()
DOCS = (PAGES / "docs.html").read_text(encoding="utf-8")


async def openapi(_request: web.Request) -> web.Response:
    """Return the OpenAPI 3.1 description; pages of any origin may read it, since it holds no secret."""
    headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}
    return web.Response(body=OPENAPI, content_type="application/json", headers=headers)


async def docs(_request: web.Request) -> web.Response:
    """Return the page."""
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(text=DOCS, content_type="text/html", headers=headers)


def _hashes(element: str) -> str:
    """Return the CSP sources of every inline `element`; one that is added later without a hash does not run."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>", DOCS, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hashes('script')}",
        f"style-src {_hashes('style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
